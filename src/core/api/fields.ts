import { z } from "zod";

const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SECRET_KEY = /^[-._a-zA-Z0-9]+$/;

/** Name of a Kubernetes object in the same namespace. */
export const objectName = (description: string) =>
  z.string().min(1).max(253).regex(DNS_SUBDOMAIN, "must be a lower-case DNS name").meta({ description });

/** Key inside a Secret's data. */
export const secretKey = (description: string) =>
  z.string().min(1).max(253).regex(SECRET_KEY, "must hold only letters, digits, '-', '_' and '.'").meta({ description });

/** A PostgreSQL name as the catalog holds it (not quoted, case matters), at most 63 characters. */
export const sqlName = (description: string) => z.string().min(1).max(63).meta({ description });

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
