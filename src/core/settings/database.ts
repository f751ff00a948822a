/**
 * How to reach the database, from a URL or from a Secret. A user's connection string is never handed
 * to the driver: `?host=` would override the host, and `?sslrootcert=` would read a local file. The
 * parts are taken apart here, and only known parameters are accepted.
 */
import type { DatabaseSpec, TlsSpec } from "../api/database.ts";
import { bareHost } from "../bare-host.ts";
import { PgEventsError } from "../errors.ts";

export interface TlsSettings {
  readonly mode: TlsSpec["mode"];
  /** Name the certificate must carry, when it is not the host. */
  readonly serverName?: string | undefined;
  /** PEM texts. */
  readonly ca?: string | undefined;
  readonly clientCert?: string | undefined;
  readonly clientKey?: string | undefined;
}

export interface DatabaseSettings {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string | undefined;
  readonly tls: TlsSettings;
  readonly connectTimeoutSeconds: number;
  readonly lockTimeoutSeconds: number;
  readonly statementTimeoutSeconds: number;
}

/** Reads one key of a Secret: the text, or undefined when the Secret or the key is not there. */
export type ReadSecret = (secretName: string, key: string) => string | undefined;

const DEFAULT_TIMEOUTS = { connectTimeoutSeconds: 10, lockTimeoutSeconds: 3, statementTimeoutSeconds: 60 };
const DEFAULT_PORT = 5432;

/** A DNS name or an address. A path would make the driver use a local socket. */
const HOST = /^[A-Za-z0-9_.:-]+$/;
/** The end of a text in the protocol: what followed it would be read as further parameters. */
const NUL = "\0";

const SSLMODES: Record<string, TlsSpec["mode"]> = {
  disable: "Disable",
  require: "Require",
  "verify-ca": "VerifyCA",
  "verify-full": "VerifyFull",
};

/**
 * Settings from a `postgres://user:password@host:port/database` URL.
 * Without `sslmode`, TLS is verified in full, but not used at all to a loopback address.
 * @param where what the URL comes from, for the message; the URL itself is never shown
 * @throws PgEventsError PGE_DATABASE_URL_INVALID
 */
export function databaseFromUrl(text: string, where: string): DatabaseSettings {
  const { host, port, database, user, password, sslmode, connectTimeoutSeconds } = parseUrl(
    text,
    (problem) => {
      return new PgEventsError("PGE_DATABASE_URL_INVALID", `${where}: ${problem}.`, {
        remedy: "Write postgres://user:password@host:5432/database, special characters percent-encoded.",
        reason: "SecretInvalid",
      });
    },
  );
  return {
    ...DEFAULT_TIMEOUTS,
    ...(connectTimeoutSeconds === undefined ? {} : { connectTimeoutSeconds }),
    host,
    port,
    database,
    user,
    password,
    tls: { mode: sslmode ?? (isLoopback(host) ? "Disable" : "VerifyFull") },
  };
}

/**
 * Settings from the Secrets that `spec.database` names.
 * @throws PgEventsError PGE_SECRET_NOT_FOUND or PGE_SECRET_INVALID that names the Secret and the key, never a value
 */
export function databaseFromSecret(spec: DatabaseSpec, readSecret: ReadSecret): DatabaseSettings {
  const { secretRef, keys } = spec;
  const read = (key: string) => readSecret(secretRef.name, key);
  const timeouts = {
    connectTimeoutSeconds: spec.connectTimeoutSeconds,
    lockTimeoutSeconds: spec.lockTimeoutSeconds,
    statementTimeoutSeconds: spec.statementTimeoutSeconds,
  };
  const tls = tlsFrom(spec.tls, readSecret);
  if (keys.uri !== undefined) {
    const key = keys.uri;
    const uri = requireValue(secretRef.name, key, read(key));
    const parts = parseUrl(uri, (problem) => secretInvalid(secretRef.name, key, problem));
    const { host, port, database, user, password } = parts;
    return { host, port, database, user, password, tls, ...timeouts };
  }
  return {
    host: hostOf(secretRef.name, keys.host, read(keys.host)),
    port: portOf(secretRef.name, keys.port, read(keys.port)),
    database: requireValue(secretRef.name, keys.dbname, read(keys.dbname)),
    user: requireValue(secretRef.name, keys.username, read(keys.username)),
    password: passwordOf(
      secretRef.name,
      keys.password,
      read(keys.password),
      spec.tls.clientCertSecretRef !== undefined,
    ),
    tls,
    ...timeouts,
  };
}

/** Every Secret key that the database part of a spec names; `optional` ones may be missing. */
export function databaseSecretKeys(spec: DatabaseSpec): { name: string; key: string; optional: boolean }[] {
  const { secretRef, keys, tls } = spec;
  const name = secretRef.name;
  const connection =
    keys.uri !== undefined
      ? [{ name, key: keys.uri, optional: false }]
      : [keys.host, keys.dbname, keys.username, keys.password, keys.port].map((key) => ({
          name,
          key,
          optional: key === keys.port || (key === keys.password && tls.clientCertSecretRef !== undefined),
        }));
  const ca = tls.caSecretRef === undefined ? [] : [{ ...tls.caSecretRef, optional: false }];
  const client =
    tls.clientCertSecretRef === undefined
      ? []
      : ["tls.crt", "tls.key"].map((key) => ({
          name: tls.clientCertSecretRef?.name ?? "",
          key,
          optional: false,
        }));
  return [...connection, ...ca, ...client];
}

export function isLoopback(host: string): boolean {
  return host.toLowerCase() === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

function tlsFrom(tls: TlsSpec, readSecret: ReadSecret): TlsSettings {
  const pem = (name: string, key: string) => {
    const text = requireValue(name, key, readSecret(name, key));
    if (!text.includes("-----BEGIN ")) throw secretInvalid(name, key, "holds no PEM text");
    return text;
  };
  return {
    mode: tls.mode,
    serverName: tls.serverName,
    ca: tls.caSecretRef && pem(tls.caSecretRef.name, tls.caSecretRef.key),
    clientCert: tls.clientCertSecretRef && pem(tls.clientCertSecretRef.name, "tls.crt"),
    clientKey: tls.clientCertSecretRef && pem(tls.clientCertSecretRef.name, "tls.key"),
  };
}

/** A value with the line end cut off that `echo` and editors leave; anything else odd is refused. */
function requireValue(name: string, key: string, value: string | undefined): string {
  const text = value?.replace(/\r?\n$/, "");
  if (text === undefined) throw secretInvalid(name, key, "is missing");
  if (text.trim() === "") throw secretInvalid(name, key, "is empty");
  if (text.includes(NUL) || text.includes("\uFFFD")) throw secretInvalid(name, key, "is not UTF-8 text");
  if (!text.includes("-----BEGIN ") && /[\r\n]/.test(text))
    throw secretInvalid(name, key, "holds a line break");
  return text;
}

function hostOf(name: string, key: string, value: string | undefined): string {
  const host = requireValue(name, key, value);
  if (!HOST.test(host)) throw secretInvalid(name, key, "is not a host name or address");
  return host;
}

function passwordOf(
  name: string,
  key: string,
  value: string | undefined,
  hasCertificate: boolean,
): string | undefined {
  if (value === undefined && hasCertificate) return undefined;
  return requireValue(name, key, value);
}

function portOf(name: string, key: string, value: string | undefined): number {
  if (value === undefined) return DEFAULT_PORT;
  const port = parsePort(requireValue(name, key, value));
  if (port === null) throw secretInvalid(name, key, "is not a port from 1 to 65535");
  return port;
}

function secretInvalid(name: string, key: string, problem: string): PgEventsError {
  return new PgEventsError("PGE_SECRET_INVALID", `Key ${key} of Secret ${name} ${problem}.`, {
    reason: "SecretInvalid",
    remedy: "Correct the Secret, or name other keys in spec.database.keys.",
  });
}

interface UrlParts {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string | undefined;
  sslmode: TlsSpec["mode"] | undefined;
  connectTimeoutSeconds: number | undefined;
}

function parseUrl(text: string, invalid: (problem: string) => PgEventsError): UrlParts {
  if (!URL.canParse(text)) throw invalid("is not a URL");
  const url = new URL(text);
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:")
    throw invalid("does not begin with postgres://");
  const decode = (part: string, what: string) => {
    const text = decoded(part);
    if (text === null) throw invalid(`has a ${what} with a wrong percent-encoding`);
    if (text.includes(NUL)) throw invalid(`has a ${what} with a NUL`);
    return text;
  };
  const host = bareHost(decode(url.hostname, "host"));
  if (!HOST.test(host)) throw invalid("must name exactly one host");
  const user = decode(url.username, "user");
  if (user === "") throw invalid("names no user");
  const database = decode(url.pathname.slice(1), "database name");
  if (database === "") throw invalid("names no database");
  if (url.port === "0") throw invalid("has a port that is not from 1 to 65535");
  const parameters = readParameters(url, invalid);
  const password = url.password === "" ? undefined : decode(url.password, "password");
  return {
    host,
    port: url.port === "" ? DEFAULT_PORT : Number(url.port),
    database,
    user,
    password,
    ...parameters,
  };
}

function readParameters(
  url: URL,
  invalid: (problem: string) => PgEventsError,
): Pick<UrlParts, "sslmode" | "connectTimeoutSeconds"> {
  let sslmode: TlsSpec["mode"] | undefined;
  let connectTimeoutSeconds: number | undefined;
  for (const [name, value] of url.searchParams) {
    if (name === "sslmode") {
      sslmode = SSLMODES[value];
      if (sslmode === undefined)
        throw invalid(`has an unknown sslmode; use one of ${Object.keys(SSLMODES).join(", ")}`);
    } else if (name === "connect_timeout") {
      connectTimeoutSeconds = Number(value);
      if (
        !Number.isInteger(connectTimeoutSeconds) ||
        connectTimeoutSeconds < 1 ||
        connectTimeoutSeconds > 300
      ) {
        throw invalid("has a connect_timeout that is not a number of seconds from 1 to 300");
      }
    } else if (name !== "application_name") {
      throw invalid(`has the parameter ${name}, which is not supported`);
    }
  }
  return { sslmode, connectTimeoutSeconds };
}

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function parsePort(text: string): number | null {
  const port = Number(text);
  return /^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535 ? port : null;
}
