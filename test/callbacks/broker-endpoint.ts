/** Transports to brokers for tests: made as the worker makes them, from a manifest's callback. */
import type { TestContext } from "node:test";
import { createTransport } from "../../src/callbacks/registry.ts";
import { type CallbackSpec, callbackSchema } from "../../src/core/api/callback.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import { transportDependencies } from "./http-endpoint.ts";

export interface BrokerSetup {
  readonly delivery?: Partial<CallbackSpec["delivery"]>;
  readonly batch?: Partial<CallbackSpec["batch"]>;
  /** By `<secret>/<key>`; may be changed during the test. */
  readonly secrets?: Record<string, string>;
  readonly allowLoopback?: boolean;
  readonly name?: string;
}

/** Closed after the test. @param transport the field `nats`, `kafka` or `stdout` of a callback */
export function brokerTransport(
  t: TestContext,
  transport: Record<string, unknown>,
  { secrets = {}, allowLoopback = true, name = "orders", ...limits }: BrokerSetup = {},
): Transport {
  const made = createTransport(
    callbackSchema.parse({ name, ...transport, ...limits }),
    transportDependencies({
      readSecret: (secret, key) => secrets[`${secret}/${key}`],
      addresses: { allowLoopback },
    }),
  );
  t.after(() => made.close());
  return made;
}
