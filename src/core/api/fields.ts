import { z } from "zod";
import { withRules } from "./rule.ts";

export const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SECRET_KEY = /^[-._a-zA-Z0-9]+$/;
const MAX_SQL_NAME_BYTES = 63;

/** Name of a Kubernetes object in the same namespace. */
export const objectName = (description: string) =>
  z.string().min(1).max(253).regex(DNS_SUBDOMAIN, "must be a lower-case DNS name").meta({ description });

/** Key inside a Secret's data. */
export const secretKey = (description: string) =>
  z
    .string()
    .min(1)
    .max(253)
    .regex(SECRET_KEY, "must hold only letters, digits, '-', '_' and '.'")
    .meta({ description });

/** A PostgreSQL name as the catalog holds it (not quoted, case matters), at most 63 bytes of UTF-8. */
export const sqlName = (description: string) =>
  withRules(
    z
      .string()
      .min(1)
      .max(MAX_SQL_NAME_BYTES)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is what is refused
      .regex(/^[^\x00]*$/, "must not hold a NUL character")
      .meta({ description }),
    [
      {
        cel: `size(bytes(self)) <= ${MAX_SQL_NAME_BYTES}`,
        message: `must be at most ${MAX_SQL_NAME_BYTES} bytes of UTF-8, the limit of PostgreSQL for a name`,
        holds: (name) => new TextEncoder().encode(name).length <= MAX_SQL_NAME_BYTES,
      },
    ],
  );

/** A list whose entries differ from each other. */
export const setOf = <S extends z.ZodType>(item: S) =>
  z
    .array(item)
    .refine((entries) => new Set(entries).size === entries.length, {
      error: "must not hold the same entry twice",
    })
    .meta({ "x-kubernetes-list-type": "set" });

/** A list whose entries are told apart by `keys`; server-side apply merges it entry by entry. */
export const listByKeys = <S extends z.ZodObject>(keys: readonly string[], item: S) =>
  z
    .array(item)
    .refine((entries) => new Set(entries.map((entry) => identity(entry, keys))).size === entries.length, {
      error: `must not hold two entries with the same ${keys.map((key) => `\`${key}\``).join(" and ")}`,
    })
    .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [...keys] });

export const integer = (minimum: number, maximum: number, description: string) =>
  z.int().min(minimum).max(maximum).meta({ description });

/** `prefault({})`, and the same as a CRD default: an absent object gets the defaults of its fields. */
export const withEmptyDefault = <S extends z.ZodObject>(schema: S) => schema.prefault({} as z.input<S>);

export const secretRef = (description: string) =>
  z.strictObject({ name: objectName("Name of the Secret, in the namespace of the PgEventSource.") }).meta({
    description,
    "x-kubernetes-map-type": "atomic",
  });

export const secretKeyRef = (description: string, defaultKey?: string) => {
  const key = secretKey(
    defaultKey === undefined ? "Key in the Secret." : `Key in the Secret. Default: ${defaultKey}.`,
  );
  return z
    .strictObject({
      name: objectName("Name of the Secret, in the namespace of the PgEventSource."),
      key: defaultKey === undefined ? key : key.default(defaultKey),
    })
    .meta({ description });
};

const identity = (entry: Record<string, unknown>, keys: readonly string[]) =>
  JSON.stringify(keys.map((key) => entry[key]));

/** Whom to trust, and what to show, in a TLS connection. */
export const tlsSecrets = {
  caSecretRef: secretKeyRef(
    "Certificate authorities (PEM) to trust. Default: the system's.",
    "ca.crt",
  ).optional(),
  clientCertSecretRef: secretRef(
    "Secret of type kubernetes.io/tls (keys tls.crt and tls.key) to log in with. Default: none.",
  ).optional(),
};
