import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { PgEventsError } from "../../src/core/errors.ts";
import { source } from "../support/crd-cases.ts";

const messageOf = (value: unknown): string => {
  try {
    parsePgEventSource(value, "shop.yaml");
  } catch (error) {
    assert.ok(error instanceof PgEventsError, String(error));
    assert.equal(error.code, "PGE_MANIFEST_INVALID");
    assert.equal(error.reason, "InvalidSpec");
    return error.message;
  }
  return assert.fail("it was accepted");
};

describe("defaults", () => {
  test("the least manifest gets all of them", () => {
    const { spec } = parsePgEventSource(source({ database: undefined }), "shop.yaml");
    assert.deepEqual(spec, {
      suspend: false,
      deletionPolicy: "Delete",
      deletionDeadlineSeconds: 600,
      capture: {
        schemaName: "pgevents",
        install: "Managed",
        schemaChanges: "Auto",
        context: { query: false },
        onError: "Abort",
        replicated: false,
        retentionSeconds: 86_400,
        backlog: { onLimit: "Alert" },
      },
      callbacks: [
        {
          name: "orders",
          suspend: false,
          ordering: "Key",
          http: { uri: "https://orders.example.com/events", format: "CloudEventsBinary", protocol: "Http1" },
          batch: { maxEvents: 100, maxBytes: 1_048_576, maxWaitMilliseconds: 0 },
          delivery: {
            timeoutSeconds: 10,
            attempts: 20,
            backoffSeconds: 1,
            maxBackoffSeconds: 300,
            maxInFlight: 16,
          },
        },
      ],
      worker: { replicas: 1, terminationGracePeriodSeconds: 30, logLevel: "Info" },
    });
  });

  test("a database reads the keys of a CloudNativePG Secret and verifies its server", () => {
    const { database } = parsePgEventSource(source(), "shop.yaml").spec;
    assert.deepEqual(database, {
      secretRef: { name: "shop-db" },
      keys: { host: "host", port: "port", dbname: "dbname", username: "username", password: "password" },
      tls: { mode: "VerifyFull" },
      connectTimeoutSeconds: 10,
      lockTimeoutSeconds: 3,
      statementTimeoutSeconds: 60,
    });
  });

  test("one parse does not share objects with the next", () => {
    const first = parsePgEventSource(source({ capture: { tables: [{ schema: "s", name: "t" }] } }), "a");
    first.spec.capture.tables?.[0]?.operations.pop();
    first.spec.worker.replicas = 9;
    const second = parsePgEventSource(source({ capture: { tables: [{ schema: "s", name: "t" }] } }), "b");
    assert.deepEqual(second.spec.capture.tables?.[0]?.operations, ["Insert", "Update", "Delete", "Truncate"]);
    assert.equal(second.spec.worker.replicas, 1);
  });

  test("metadata is kept as it is, status is left out", () => {
    const metadata = { name: "shop", namespace: "n", uid: "1", labels: { a: "b" }, managedFields: [] };
    const parsed = parsePgEventSource(
      { ...source(), metadata, status: { conditions: "anything" } },
      "shop.yaml",
    );
    assert.deepEqual(parsed.metadata, metadata);
    assert.equal("status" in parsed, false);
  });
});

describe("messages", () => {
  test("name the input, the path and what is wrong, all findings at once", () => {
    const message = messageOf(
      source({
        callbacks: [
          { name: "a", http: { uri: "https://a/", retries: 3 } },
          { name: "B", http: {} },
        ],
        worker: { replicas: 40, logLevel: "Loud" },
        "od\nd": 1,
      }),
    );
    assert.match(message, /^shop\.yaml is not a valid PgEventSource: /);
    assert.ok(message.includes("spec.callbacks[0].http.retries: no such field"), message);
    assert.ok(message.includes("spec.callbacks[1].name: must be a lower-case DNS label"), message);
    assert.ok(
      message.includes("spec.callbacks[1].http: exactly one of `uri`, `ref` and `uriFrom` must be set"),
      message,
    );
    assert.ok(message.includes("spec.worker.replicas: Too big: expected number to be <=32"), message);
    assert.ok(
      message.includes('spec.worker.logLevel: expected one of "Error"|"Warn"|"Info"|"Debug"'),
      message,
    );
    assert.ok(message.includes('spec["od\\nd"]: no such field'), message);
  });

  test("say which type was expected", () => {
    assert.match(messageOf(source({ callbacks: "x" })), /spec\.callbacks: expected array, received string/);
  });

  test("never repeat a value", () => {
    const header = { name: "Authorization", value: "Bearer hunter2\n" };
    const http = { uri: "https://user:hunter2@a/", headers: [header] };
    assert.doesNotMatch(
      messageOf(source({ callbacks: [{ name: "a", http }], suspend: "hunter2" })),
      /hunter2/,
    );
  });

  test("end, however much is wrong", () => {
    const unknown = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`field${index}`, 1]));
    const message = messageOf(source(unknown));
    assert.match(message, /; and 4980 more\.$/);
    assert.ok(message.length < 2000);
  });
});

describe("hostile input", () => {
  const circle: Record<string, unknown> = {};
  circle.spec = [circle, circle];
  let deep: unknown = 1;
  for (let level = 0; level < 100_000; level++) deep = [deep];

  const cases: [string, unknown][] = [
    ["nothing", undefined],
    ["null", null],
    ["text", "kind: PgEventSource"],
    ["a list", []],
    ["an empty object", {}],
    ["another kind", { ...source(), kind: "Secret" }],
    ["another version", { ...source(), apiVersion: "pgevents.dev/v1" }],
    ["a circle", circle],
    ["deep nesting", deep],
    ["a prototype", JSON.parse('{"__proto__": {"spec": {}}, "constructor": 1}')],
  ];
  for (const [title, value] of cases) {
    test(`${title} is refused with a message`, () => assert.ok(messageOf(value).length < 1000));
  }

  test("a prototype inside of a map does not reach Object.prototype", () => {
    const manifest = JSON.parse(JSON.stringify(source()));
    manifest.spec.worker = { affinity: JSON.parse('{"__proto__": {"polluted": true}}') };
    parsePgEventSource(manifest, "shop.yaml");
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  });
});
