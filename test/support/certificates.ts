/** Certificates for tests: an authority of its own, and what it issues. X.509 v3 with P-256 keys, written as DER by hand. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";

export interface IssuedCertificate {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

export interface CertificateAuthority {
  /** PEM of its own certificate. */
  readonly cert: string;
  /** A server certificate for these host names and addresses. */
  issue(hosts: readonly string[]): IssuedCertificate;
}

export function certificateAuthority(name: string): CertificateAuthority {
  const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [extension("551d13", der(SEQUENCE, der(BOOLEAN, Buffer.of(0xff))), true)]; // basicConstraints: CA
  return {
    cert: certificate({
      issuer: name,
      subject: name,
      key: keys.publicKey,
      signer: keys.privateKey,
      extensions,
    }),
    issue: (hosts) => {
      const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const names = extension("551d11", der(SEQUENCE, ...hosts.map(alternativeName)), false);
      return {
        cert: certificate({
          issuer: name,
          subject: hosts[0] ?? "server",
          key: own.publicKey,
          signer: keys.privateKey,
          extensions: [names],
        }),
        key: own.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      };
    },
  };
}

const [BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_ID, UTF8_STRING, UTC_TIME, SEQUENCE, SET] = [
  1, 2, 3, 4, 6, 12, 23, 48, 49,
] as const;
const DAY_MS = 86_400_000;
const ECDSA_WITH_SHA256 = der(SEQUENCE, der(OBJECT_ID, Buffer.from("2a8648ce3d040302", "hex")));

interface Contents {
  readonly issuer: string;
  readonly subject: string;
  readonly key: KeyObject;
  readonly signer: KeyObject;
  readonly extensions: readonly Buffer[];
}

function certificate({ issuer, subject, key, signer, extensions }: Contents): string {
  const body = der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.of(2))), // version 3
    der(INTEGER, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer),
    der(SEQUENCE, utcTime(Date.now() - DAY_MS), utcTime(Date.now() + DAY_MS)),
    distinguishedName(subject),
    key.export({ type: "spki", format: "der" }),
    der(0xa3, der(SEQUENCE, ...extensions)),
  );
  const signature = der(BIT_STRING, Buffer.of(0), sign("sha256", body, signer));
  const lines =
    der(SEQUENCE, body, ECDSA_WITH_SHA256, signature)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function distinguishedName(commonName: string): Buffer {
  const attribute = der(
    SEQUENCE,
    der(OBJECT_ID, Buffer.from("550403", "hex")),
    der(UTF8_STRING, Buffer.from(commonName)),
  );
  return der(SEQUENCE, der(SET, attribute));
}

function alternativeName(host: string): Buffer {
  if (isIP(host) === 0) return der(0x82, Buffer.from(host));
  if (isIP(host) === 4) return der(0x87, Buffer.from(host.split(".").map(Number)));
  throw new Error("only names and IPv4 addresses");
}

function extension(objectId: string, value: Buffer, critical: boolean): Buffer {
  const flag = critical ? [der(BOOLEAN, Buffer.of(0xff))] : [];
  return der(SEQUENCE, der(OBJECT_ID, Buffer.from(objectId, "hex")), ...flag, der(OCTET_STRING, value));
}

function utcTime(ms: number): Buffer {
  return der(UTC_TIME, Buffer.from(`${new Date(ms).toISOString().replace(/\D/g, "").slice(2, 14)}Z`));
}

/** Tag, length, value. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  const size = value.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}
