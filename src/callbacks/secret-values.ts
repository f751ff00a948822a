/** Values of a callback's Secrets, checked for what they are used for. Read anew each time: files of Secrets change. */
import type { KeyObject } from "node:crypto";
import type { BrokerTlsSpec, LoginSpec } from "../core/api/broker.ts";
import { webhookKey } from "../core/delivery/webhook-signature.ts";
import { PgEventsError } from "../core/errors.ts";
import type { ReadSecret } from "../core/settings/database.ts";

export interface SecretKey {
  readonly name: string;
  readonly key: string;
}

/** PEM texts for a TLS connection; what is absent is not set. */
export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** Each reads one value, without a line break at its end. @throws PgEventsError PGE_SECRET_INVALID, with the Secret's name and never a value */
export interface CallbackSecrets {
  /** What can be sent in a header. */
  header(ref: SecretKey): string;
  /** Certificates in PEM form. */
  pem(ref: SecretKey): string;
  /** Text that is not empty. */
  text(ref: SecretKey): string;
  /** The seed of a NATS user's nkey. */
  natsSeed(ref: SecretKey): string;
  /** A credentials file of NATS. */
  natsCredentials(ref: SecretKey): string;
  /** A key to sign requests with. */
  signingKey(ref: SecretKey): KeyObject;
  login(spec: LoginSpec): Login;
  tls(spec: BrokerTlsSpec): TlsMaterial;
}

export function callbackSecrets(callbackName: string, readSecret: ReadSecret): CallbackSecrets {
  const read = ({ name, key }: SecretKey, problemOf: (text: string) => string | null): string => {
    const text = readSecret(name, key)?.replace(/\r?\n$/, "");
    const problem = text === undefined ? "is missing" : text.trim() === "" ? "is empty" : problemOf(text);
    if (text !== undefined && problem === null) return text;
    throw new PgEventsError(
      "PGE_SECRET_INVALID",
      `Key ${key} of Secret ${name}, used by callback ${callbackName}, ${problem}.`,
      {
        reason: "SecretInvalid",
        remedy: "Correct the Secret, or name another key.",
      },
    );
  };
  const header = (ref: SecretKey) =>
    read(ref, (text) =>
      /^[\t\x20-\x7e]*$/.test(text)
        ? null
        : "holds a line break or a character that is not ASCII, which a header cannot carry",
    );
  const pem = (ref: SecretKey) =>
    read(ref, (text) =>
      text.includes("-----BEGIN CERTIFICATE-----") ? null : "holds no certificate in PEM form",
    );
  const privateKey = (ref: SecretKey) =>
    read(ref, (text) =>
      /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text) ? null : "holds no private key in PEM form",
    );
  const text = (ref: SecretKey) => read(ref, () => null);
  return {
    header,
    pem,
    text,
    natsSeed: (ref) =>
      read(ref, (value) =>
        /^SU[A-Z2-7]{56}$/.test(value.trim())
          ? null
          : "holds no seed of a user (SU and 56 letters and digits)",
      ).trim(),
    natsCredentials: (ref) =>
      read(ref, (value) =>
        /BEGIN NATS USER JWT-+\s[\s\S]*BEGIN USER NKEY SEED-+\s/.test(value)
          ? null
          : "holds no credentials file of NATS, with a JWT and a seed",
      ),
    signingKey: (ref) => {
      let key: KeyObject | string = "";
      read(ref, (value) => {
        key = webhookKey(value.trim());
        return typeof key === "string" ? key : null;
      });
      return key as unknown as KeyObject;
    },
    login: ({ secretRef: { name }, username, usernameKey, passwordKey }) => ({
      username: username ?? text({ name, key: usernameKey }),
      password: text({ name, key: passwordKey }),
    }),
    tls: ({ caSecretRef, clientCertSecretRef }) => ({
      ...(caSecretRef === undefined ? {} : { ca: pem(caSecretRef) }),
      ...(clientCertSecretRef === undefined
        ? {}
        : {
            cert: pem({ name: clientCertSecretRef.name, key: "tls.crt" }),
            key: privateKey({ name: clientCertSecretRef.name, key: "tls.key" }),
          }),
    }),
  };
}
