import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import type { PgEventSource } from "../../src/core/api/source.ts";
import type { PgEventSourceStatus } from "../../src/core/api/status.ts";
import { structuredBody } from "../../src/core/delivery/cloudevents.ts";
import { knownAddresses, withAddresses } from "../../src/core/reconcile/addresses.ts";
import { bindSink } from "../../src/core/settings/sink-binding.ts";

function source(...callbacks: object[]): PgEventSource {
  return parsePgEventSource(
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop", namespace: "store", generation: 3 },
      spec: { database: { secretRef: { name: "shop-db" } }, callbacks },
    },
    "store/shop",
  );
}

const plain = { name: "plain", http: { uri: "https://a/" } };
const stock = { name: "stock", http: { ref: { name: "stock" }, format: "CloudEventsStructured" } };
const bound = { name: "bound", http: { uriFrom: "SinkBinding" } };
const short = ({ spec }: PgEventSource) =>
  spec.callbacks.map(({ name, suspend, http }) => [name, http?.uri, suspend, http?.ref, http?.format]);

describe("references of callbacks", () => {
  test("give way to their address; without one the callback waits, and the others go on", () => {
    const one = source(plain, stock);
    assert.deepEqual(short(withAddresses(one, new Map([["stock", "http://stock.store.svc:80/"]]))), [
      ["plain", "https://a/", false, undefined, "CloudEventsBinary"],
      ["stock", "http://stock.store.svc:80/", false, undefined, "CloudEventsStructured"],
    ]);
    assert.deepEqual(short(withAddresses(one, new Map()))[1], [
      "stock",
      "http://callback.invalid/",
      true,
      undefined,
      "CloudEventsStructured",
    ]);
  });

  test("keep an address whose object is gone for a while, but not that of another spec", () => {
    const before = (observedGeneration: number): PgEventSourceStatus => ({
      conditions: [
        {
          type: "CallbacksResolved",
          status: "True",
          reason: "Resolved",
          message: "",
          lastTransitionTime: "2026-01-01T00:00:00Z",
          observedGeneration,
        },
      ],
      callbacks: [{ name: "stock", uri: "http://old/" }],
    });
    const none = new Map<string, string>();
    assert.equal(knownAddresses(source(stock), none, before(3)).get("stock"), "http://old/");
    assert.equal(knownAddresses(source(stock), none, before(2)).get("stock"), undefined);
    assert.equal(
      knownAddresses(source(stock), new Map([["stock", "http://new/"]]), before(3)).get("stock"),
      "http://new/",
    );
  });
});

describe("a SinkBinding", () => {
  const K_CE_OVERRIDES = JSON.stringify({ extensions: { team: "data \u00e9" } });

  test("says where to, what is added and whom to trust, for the callbacks that ask for it", () => {
    const { source: made, bindingOf } = bindSink(source(plain, bound), {
      K_SINK: "http://broker.knative.svc/shop",
      K_CE_OVERRIDES,
      K_CA_CERTS: "PEM",
    });
    assert.deepEqual(
      short(made).map(([, uri, suspend]) => [uri, suspend]),
      [
        ["https://a/", false],
        ["http://broker.knative.svc/shop", false],
      ],
    );
    assert.equal(bindingOf("plain"), undefined);
    const { extensions = [], caCerts } = bindingOf("bound") ?? {};
    assert.equal(caCerts, "PEM");
    const origin = { installationId: "i", source: "/s", extensions };
    const event = {
      id: "1",
      transactionId: "2",
      time: "2026-01-01T00:00:00Z",
      operation: "Insert",
      schema: "public",
      table: "orders",
      key: "[1]",
      oldKey: null,
      schemaVersion: null,
      old: null,
      new: '{"id":1}',
      context: "{}",
    } as never;
    assert.equal(JSON.parse(structuredBody(origin, event)).team, "data \u00e9");
  });

  test("that is not there yet lets the callback wait", () => {
    const { source: made } = bindSink(source(bound), {});
    assert.equal(made.spec.callbacks[0]?.suspend, true);
  });

  test("of others' environments nothing is read", () => {
    const { bindingOf } = bindSink(source(plain), { K_SINK: "nonsense", K_CE_OVERRIDES: "{" });
    assert.equal(bindingOf("plain"), undefined);
  });

  const refused: [string, Record<string, string>, RegExp][] = [
    ["an address", { K_SINK: "ftp://a/" }, /K_SINK is not an http or https URL/],
    ["no JSON", { K_CE_OVERRIDES: "{" }, /K_CE_OVERRIDES is not JSON/],
    ["a name", { K_CE_OVERRIDES: '{"extensions":{"a-b":"c"}}' }, /"a-b", which is no name of an attribute/],
    [
      "an attribute of ours",
      { K_CE_OVERRIDES: '{"extensions":{"id":"c"}}' },
      /has id, which is set from the event/,
    ],
    ["a value", { K_CE_OVERRIDES: '{"extensions":{"a":1}}' }, /a value of a that is not a string/],
  ];
  for (const [title, environment, message] of refused) {
    test(`with ${title} that cannot be used is refused`, () => {
      assert.throws(() => bindSink(source(bound), environment), {
        code: "PGE_SINK_BINDING_INVALID",
        message,
      });
    });
  }
});
