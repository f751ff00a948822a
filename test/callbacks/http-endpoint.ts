/** HTTP transports for tests: made as the worker makes them, from a manifest's callback. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { createTransport, type TransportDependencies } from "../../src/callbacks/registry.ts";
import { type CallbackSpec, callbackSchema } from "../../src/core/api/callback.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import { ORIGIN } from "../support/change-event.ts";
import type { Answer } from "../support/receiver.ts";
import type { Behaviour } from "./conformance.ts";

export interface TransportSetup {
  readonly http?: Partial<CallbackSpec["http"]>;
  readonly delivery?: Partial<CallbackSpec["delivery"]>;
  /** By `<secret>/<key>`; may be changed during the test. */
  readonly secrets?: Record<string, string>;
  readonly allowLoopback?: boolean;
  /** K_CA_CERTS of a SinkBinding. */
  readonly caCerts?: string;
}

/** Closed after the test. */
export function httpTransport(t: TestContext, uri: string, setup: TransportSetup = {}): Transport {
  const { http = {}, delivery = {}, secrets = {}, allowLoopback = true, caCerts } = setup;
  const dependencies = transportDependencies({
    readSecret: (name, key) => secrets[`${name}/${key}`],
    addresses: { allowLoopback },
    caCerts,
  });
  const transport = createTransport(parseCallback(uri, http, delivery), dependencies);
  t.after(() => transport.close());
  return transport;
}

/** What the worker gives along, but for what is given. */
export function transportDependencies(changes: Partial<TransportDependencies> = {}): TransportDependencies {
  return {
    origin: ORIGIN,
    readSecret: () => undefined,
    addresses: { allowLoopback: true },
    userAgent: "pg-events/1.2.3",
    moduleFunctions: () => assert.fail("there are no modules here"),
    ...changes,
  };
}

export function parseCallback(
  uri: string,
  http: Partial<CallbackSpec["http"]> = {},
  delivery: Partial<CallbackSpec["delivery"]> = {},
): CallbackSpec {
  return callbackSchema.parse({ name: "orders", http: { uri, ...http }, delivery });
}

export function answerFor(behaviour: Behaviour): Answer {
  switch (behaviour) {
    case "RefuseForNow":
      return 503;
    case "RefuseForGood":
      return 422;
    case "Silent":
      return "hang";
    default:
      return 202;
  }
}
