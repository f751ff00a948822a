/** One place that knows which transport serves which kind of callback. */
import type { CallbackSpec, ModuleSpec } from "../core/api/callback.ts";
import type { ModuleFunctions } from "../core/delivery/module-functions.ts";
import type { Transport } from "../core/delivery/transport.ts";
import type { EventOrigin } from "../core/event.ts";
import type { ReadSecret } from "../core/settings/database.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";
import type { AddressPolicy } from "./address-check.ts";
import { createHttpTransport } from "./http-secrets.ts";
import { KafkaTransport } from "./kafka.ts";
import { ModuleTransport } from "./module.ts";
import { NatsTransport } from "./nats.ts";
import { callbackSecrets } from "./secret-values.ts";
import { StdoutTransport } from "./stdout.ts";

export interface TransportDependencies {
  readonly origin: EventOrigin;
  readonly readSecret: ReadSecret;
  readonly addresses: AddressPolicy;
  /** What https:// callbacks go through; absent: nothing. */
  readonly proxy?: ProxySettings | undefined;
  readonly userAgent: string;
  /** PEM of authorities to trust for HTTP where the callback names none. */
  readonly caCerts?: string | undefined;
  /** Where the functions of a module callback are. */
  readonly moduleFunctions: (module: ModuleSpec) => ModuleFunctions;
}

/**
 * @throws PgEventsError PGE_SECRET_INVALID when a Secret of the callback lacks a key or holds what cannot be
 * sent; what `moduleFunctions` throws
 */
export function createTransport(callback: CallbackSpec, deps: TransportDependencies): Transport {
  const { http, module, nats, kafka, stdout, name } = callback;
  const { origin, addresses, userAgent, readSecret } = deps;
  const common = { callback: name, limits: callback, origin };
  if (http !== undefined) return createHttpTransport({ ...callback, http }, deps);
  if (module !== undefined)
    return new ModuleTransport({ ...common, module, functions: deps.moduleFunctions(module) });
  if (stdout !== undefined) return new StdoutTransport(common);
  const secrets = callbackSecrets(name, readSecret);
  if (nats !== undefined) return new NatsTransport({ ...common, nats, secrets, addresses, userAgent });
  if (kafka !== undefined) return new KafkaTransport({ ...common, kafka, secrets, addresses });
  throw new Error("a callback has a transport"); // the schema sees to it
}
