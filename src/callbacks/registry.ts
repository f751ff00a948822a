/** One place that knows which transport serves which kind of callback. */
import type { CallbackSpec } from "../core/api/callback.ts";
import { PgEventsError } from "../core/errors.ts";
import type { EventOrigin } from "../core/event.ts";
import type { ReadSecret } from "../core/settings/database.ts";
import type { Transport } from "../core/delivery/transport.ts";
import type { AddressPolicy } from "./address-check.ts";
import { HttpTransport } from "./http.ts";

export interface TransportDependencies {
  readonly origin: EventOrigin;
  readonly readSecret: ReadSecret;
  readonly addresses: AddressPolicy;
  readonly userAgent: string;
}

/** @throws PgEventsError PGE_SECRET_INVALID when a Secret of the callback lacks a key */
export function createTransport(callback: CallbackSpec, deps: TransportDependencies): Transport {
  const { readSecret } = deps;
  const required = (name: string, key: string): string => {
    const value = readSecret(name, key)?.replace(/\r?\n$/, "");
    if (value === undefined || value === "" || /[\r\n\0]/.test(value.replace(/^-----BEGIN [\s\S]*$/, ""))) {
      throw new PgEventsError("PGE_SECRET_INVALID", `Key ${key} of Secret ${name}, used by callback ${callback.name}, is missing, empty or holds a line break.`, {
        reason: "SecretInvalid",
      });
    }
    return value;
  };
  const { headers = [], tls } = callback.http;
  const headerValues = () =>
    headers.flatMap(({ name, value, secretKeyRef }) => [
      name,
      secretKeyRef === undefined ? (value ?? "") : required(secretKeyRef.name, secretKeyRef.key),
    ]);
  headerValues(); // a missing Secret shows at the start, not at the first event
  return new HttpTransport({
    callback,
    origin: deps.origin,
    headers: headerValues,
    ca: tls?.caSecretRef && required(tls.caSecretRef.name, tls.caSecretRef.key),
    addresses: deps.addresses,
    userAgent: deps.userAgent,
  });
}
