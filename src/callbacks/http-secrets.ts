/** HTTP transports with the values of their Secrets, which may change while the worker runs. */
import type { CallbackSpec, HttpSpec } from "../core/api/callback.ts";
import { PgEventsError } from "../core/errors.ts";
import type { EventOrigin } from "../core/event.ts";
import type { ReadSecret } from "../core/settings/database.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";
import type { AddressPolicy } from "./address-check.ts";
import { HttpTransport } from "./http.ts";
import { callbackSecrets } from "./secret-values.ts";

export interface HttpDependencies {
  readonly origin: EventOrigin;
  readonly readSecret: ReadSecret;
  readonly addresses: AddressPolicy;
  readonly proxy?: ProxySettings | undefined;
  readonly userAgent: string;
  /** PEM of authorities to trust where the callback names none; absent: the system's. */
  readonly caCerts?: string | undefined;
}

/** Milliseconds for which Secrets that were read are used again: thousands of requests a second share one look. */
const SECRET_REUSE_MS = 1000;

/** @throws PgEventsError PGE_SECRET_INVALID when a Secret of the callback lacks a key or holds what cannot be sent */
export function createHttpTransport(
  callback: CallbackSpec & { readonly http: HttpSpec },
  { readSecret, origin, addresses, proxy, userAgent, caCerts }: HttpDependencies,
): HttpTransport {
  const { uri } = callback.http;
  if (uri === undefined) throw unresolved(callback.name);
  const http = { ...callback.http, uri };
  const { headers = [], tls, signing } = http;
  const secret = callbackSecrets(callback.name, readSecret);
  const headerValues = headers.some(({ secretKeyRef }) => secretKeyRef !== undefined)
    ? reused(() =>
        headers.flatMap(({ name, value = "", secretKeyRef }) => [
          name,
          secretKeyRef ? secret.header(secretKeyRef) : value,
        ]),
      )
    : constant(headers.flatMap(({ name, value = "" }) => [name, value]));
  const keyRefs = [signing?.secretKeyRef, signing?.previousSecretKeyRef].flatMap((ref) => ref ?? []);
  const signingKeys = keyRefs.length === 0 ? null : reused(() => keyRefs.map(secret.signingKey));
  const trusted = caCerts === undefined ? {} : { ca: caCerts };
  const material = () => ({ ...trusted, ...(tls === undefined ? {} : secret.tls(tls)) });
  // A missing Secret shows at the start, not at the first event.
  headerValues();
  signingKeys?.();
  material();
  return new HttpTransport({
    http,
    limits: callback,
    origin,
    headers: headerValues,
    signingKeys,
    tls: material,
    addresses,
    proxy,
    userAgent,
  });
}

function unresolved(callback: string): PgEventsError {
  const message = `Callback ${callback} has no address here: \`http.ref\` is looked up by the operator, and \`http.uriFrom\` is for a worker in a cluster.`;
  return new PgEventsError("PGE_CALLBACK_UNRESOLVED", message, { remedy: "Set `http.uri`." });
}

function reused<T>(read: () => T): () => T {
  let last: { readonly value: T; readonly untilMs: number } | null = null;
  return () => {
    const nowMs = performance.now();
    if (last === null || nowMs >= last.untilMs) last = { value: read(), untilMs: nowMs + SECRET_REUSE_MS };
    return last.value;
  };
}

function constant<T>(value: T): () => T {
  return () => value;
}
