/** One place that knows which transport serves which kind of callback. */
import type { CallbackSpec, ModuleSpec } from "../core/api/callback.ts";
import type { ModuleFunctions } from "../core/delivery/module-functions.ts";
import type { Transport } from "../core/delivery/transport.ts";
import type { EventOrigin } from "../core/event.ts";
import type { ReadSecret } from "../core/settings/database.ts";
import type { AddressPolicy } from "./address-check.ts";
import { createHttpTransport } from "./http-secrets.ts";
import { ModuleTransport } from "./module.ts";

export interface TransportDependencies {
  readonly origin: EventOrigin;
  readonly readSecret: ReadSecret;
  readonly addresses: AddressPolicy;
  readonly userAgent: string;
  /** Where the functions of a module callback are. */
  readonly moduleFunctions: (module: ModuleSpec) => ModuleFunctions;
}

/**
 * @throws PgEventsError PGE_SECRET_INVALID when a Secret of the callback lacks a key or holds what cannot be
 * sent; what `moduleFunctions` throws
 */
export function createTransport(callback: CallbackSpec, deps: TransportDependencies): Transport {
  const { http, module } = callback;
  if (http !== undefined) return createHttpTransport({ ...callback, http }, deps);
  if (module === undefined) throw new Error("a callback has either `http` or `module`"); // the schema sees to it
  return new ModuleTransport({
    callback: callback.name,
    module,
    functions: deps.moduleFunctions(module),
    limits: callback,
    origin: deps.origin,
  });
}
