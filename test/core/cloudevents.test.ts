import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HTTP } from "cloudevents";
import fc from "fast-check";
import {
  BATCH_TYPE,
  batchBody,
  binaryHeaders,
  deliveryId,
  eventData,
  kafkaHeaders,
  natsHeaders,
  STRUCTURED_TYPE,
  structuredBody,
} from "../../src/core/delivery/cloudevents.ts";
import type { ChangeEvent } from "../../src/core/event.ts";
import { schemaId } from "../../src/core/schema-id.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";

interface Parsed {
  readonly [attribute: string]: unknown;
}

/** The public CloudEvents package as the judge: it throws on what is no CloudEvent. */
function parse(headers: Record<string, string>, body: string): Parsed[] {
  const parsed = HTTP.toEvent({ headers, body });
  return [parsed].flat() as unknown as Parsed[];
}

function fromBinary(event: ChangeEvent, origin = ORIGIN): Parsed {
  return parse(headersOf(event, origin), eventData(event))[0] as Parsed;
}

function pairsOf(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] as string]] : [])),
  );
}

function headersOf(event: ChangeEvent, origin = ORIGIN): Record<string, string> {
  return pairsOf(binaryHeaders(origin, event));
}

function fromStructured(event: ChangeEvent, origin = ORIGIN): Parsed {
  return parse({ "content-type": STRUCTURED_TYPE }, structuredBody(origin, event))[0] as Parsed;
}

/** Without the time, which the package rounds to milliseconds, and without attributes that are undefined. */
function plain({ time: _, ...event }: Parsed): unknown {
  return JSON.parse(JSON.stringify({ ...event }));
}

const EXPECTED = {
  specversion: "1.0",
  id: "6b1f3c0e-9f0e-4a52-9a39-1f2d3c4b5a69-700-42",
  source: "/pgevents/shop/orders",
  type: "dev.pgevents.row.updated",
  subject: "public.orders/[1]",
  partitionkey: "public.orders/[1]",
  sequence: "00000000000000000042",
  datacontenttype: "application/json",
  data: {
    operation: "Update",
    relation: { schema: "public", table: "orders" },
    key: [1],
    old: { id: 1, status: "new" },
    new: { id: 1, status: "paid" },
    transaction: { id: "700" },
    context: { session_user: "app", application_name: "shop" },
  },
};

const UPDATE = changeEvent({
  id: "42",
  operation: "Update",
  old: '{"id":1,"status":"new"}',
  new: '{"id":1,"status":"paid"}',
});

describe("attributes and data", () => {
  test("binary mode", () => {
    // The package decodes no percent-encoding in headers; `[` and `]` need none.
    assert.deepEqual(plain(fromBinary(UPDATE)), EXPECTED);
  });

  test("structured mode", () => {
    assert.deepEqual(plain(fromStructured(UPDATE)), EXPECTED);
  });

  test("the JSON Schema of the data, by its id, in each mode", () => {
    const origin = { ...ORIGIN, schemas: schemaId({ namespace: "shop", name: "orders" }) };
    const dataschema = "urn:pg-events:shop:orders:table:public:orders:0123456789ab";
    const event = { ...UPDATE, schemaVersion: "0123456789ab" };
    assert.deepEqual(plain(fromBinary(event, origin)), { ...EXPECTED, dataschema });
    assert.deepEqual(plain(fromStructured(event, origin)), { ...EXPECTED, dataschema });
    const headerOf = (headers: string[], name: string) => headers[headers.indexOf(name) + 1];
    assert.equal(headerOf(natsHeaders(origin, event), "ce-dataschema"), dataschema);
    assert.equal(headerOf(kafkaHeaders(origin, event), "ce_dataschema"), dataschema);
    const change = changeEvent({ operation: "SchemaChange", key: null, new: "{}" });
    assert.equal(fromStructured(change, origin).dataschema, "urn:pg-events:shop:orders:schema-change");
    const tables = ["a.b", "c"].map((name) =>
      fromStructured({ ...event, schema: name, table: name === "c" ? "a.b.c" : "c" }, origin),
    );
    assert.equal(new Set(tables.map(({ dataschema: id }) => id)).size, 2);
  });

  test("batched mode keeps the order, also of none and one", () => {
    const events = ["7", "8", "9"].map((id) => changeEvent({ id }));
    for (const list of [events, events.slice(0, 1)]) {
      const parsed = parse({ "content-type": BATCH_TYPE }, batchBody(ORIGIN, list));
      assert.deepEqual(
        parsed.map(({ id }) => id),
        list.map(({ id }) => `${ORIGIN.installationId}-700-${id}`),
      );
    }
    assert.equal(batchBody(ORIGIN, []), "[]");
  });

  test("the time keeps its microseconds", () => {
    assert.equal(headersOf(UPDATE)["ce-time"], "2026-11-24T12:00:00.123456Z");
    assert.match(structuredBody(ORIGIN, UPDATE), /"time":"2026-11-24T12:00:00\.123456Z"/);
  });

  test("each operation has its type and its images", () => {
    const types = (["Insert", "Update", "Delete", "Truncate"] as const).map(
      (operation) => fromStructured(changeEvent({ operation })).type,
    );
    assert.deepEqual(types, [
      "dev.pgevents.row.inserted",
      "dev.pgevents.row.updated",
      "dev.pgevents.row.deleted",
      "dev.pgevents.row.truncated",
    ]);
    const truncate = fromStructured(changeEvent({ operation: "Truncate", key: null, new: null }));
    assert.equal(truncate.subject, "public.orders");
    assert.deepEqual(
      { ...(truncate.data as object) },
      { ...EXPECTED.data, operation: "Truncate", key: null, old: null, new: null },
    );
  });

  test("a change of the schema carries what PostgreSQL says of it", () => {
    const change = '{"classid" : "1259", "command_tag" : "ALTER TABLE"}';
    const event = fromBinary(changeEvent({ operation: "SchemaChange", key: null, new: change }));
    assert.deepEqual([event.type, event.subject], ["dev.pgevents.schema.changed", "public.orders"]);
    assert.deepEqual(
      { ...(event.data as object) },
      {
        operation: "SchemaChange",
        relation: { schema: "public", table: "orders" },
        change: { classid: "1259", command_tag: "ALTER TABLE" },
        transaction: { id: "700" },
        context: { session_user: "app", application_name: "shop" },
      },
    );
  });

  test("an update of the key carries the key before", () => {
    const data = JSON.parse(eventData(changeEvent({ operation: "Update", key: "[2]", oldKey: "[1]" })));
    assert.deepEqual([data.key, data.oldKey], [[2], [1]]);
    assert.ok(!("oldKey" in JSON.parse(eventData(changeEvent()))));
  });

  test("row images pass as PostgreSQL wrote them: no digit is lost", () => {
    const row = '{"id":1,"total":123456789012345678901234567890.10,"at":"2026-11-24T12:00:00.000001"}';
    for (const body of [eventData, (event: ChangeEvent) => structuredBody(ORIGIN, event)]) {
      assert.ok(body(changeEvent({ new: row })).includes(`"new":${row}`));
    }
  });

  test("what is delivered again is marked in every form, with the same id", () => {
    const letter = { callback: "orders", error: "422: Ünï says no", attempts: 3 };
    const resent = { replay: 4, letter };
    const expected = {
      pgeventsreplay: true,
      pgeventsdeadlettercallback: "orders",
      pgeventsdeadlettererror: "422: Ünï says no",
      pgeventsdeadletterattempts: 3,
    };
    const again = changeEvent({ resent });
    const { id, ...structured } = fromStructured(again);
    assert.equal(id, fromStructured(changeEvent()).id);
    for (const [name, value] of Object.entries(expected)) assert.equal(structured[name], value);
    const texts = Object.entries(expected).map(([name, value]) => [name, String(value)]);
    const headers = headersOf(again);
    const nats = pairsOf(natsHeaders(ORIGIN, again));
    const kafka = pairsOf(kafkaHeaders(ORIGIN, again));
    for (const [name, text] of texts as [string, string][]) {
      assert.equal(decodeURIComponent(headers[`ce-${name}`] ?? ""), text);
      assert.equal(decodeURIComponent(nats[`ce-${name}`] ?? ""), text);
      assert.equal(kafka[`ce_${name}`], text);
    }
    const batch = JSON.parse(batchBody(ORIGIN, [changeEvent(), again])) as Parsed[];
    assert.deepEqual(
      batch.map(({ pgeventsreplay }) => pgeventsreplay),
      [undefined, true],
    );
    assert.equal(fromBinary(changeEvent({ resent: { replay: null, letter } })).pgeventsreplay, undefined);
  });

  test("a broker takes a replay for another delivery, and an attempt more with a dead letter for the same", () => {
    const idOf = (resent?: ChangeEvent["resent"]) => deliveryId(ORIGIN, changeEvent({ resent }), "orders");
    const letter = { callback: "stock", error: "no", attempts: 1 };
    const ids = [
      idOf(),
      idOf({ replay: 1, letter: null }),
      idOf({ replay: 2, letter: null }),
      idOf({ replay: null, letter }),
    ];
    assert.equal(new Set(ids).size, 4);
    assert.equal(idOf({ replay: 0, letter: null }), ids[0]);
    assert.equal(idOf({ replay: 0, letter }), ids[3]);
  });

  test("sequences compare as text like positions as numbers", () => {
    const ids = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(ids, ids, (a, b) => {
        const [first, second] = [a, b].map((id) =>
          String(fromStructured(changeEvent({ id: String(id) })).sequence),
        );
        assert.equal((first as string) < (second as string), a < b);
      }),
    );
  });
});

describe("names that need care", () => {
  const names = [
    'say "hi"',
    "back\\slash",
    "two\nlines\r\n",
    "tab\tand\u0001control",
    "Straße",
    "таблица",
    "注文",
    "emoji 🐘 here",
    "100%",
    "%41",
    "a b",
    "a/b.c",
    "\u007f\u0080\u2028",
    "lone \ud800 surrogate",
  ];
  for (const table of names) {
    test(JSON.stringify(table), () => {
      agree(changeEvent({ schema: "odd", table, key: JSON.stringify([table]) }));
    });
  }

  test("any name and key", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", minLength: 1 }),
        fc.string({ unit: "binary", minLength: 1 }),
        fc.jsonValue(),
        (schema, table, key) => agree(changeEvent({ schema, table, key: JSON.stringify([key]) })),
      ),
    );
  });

  test("a source is escaped too", () => {
    const origin = { ...ORIGIN, source: '/pgevents/db/a "b" é' };
    assert.equal(headersOf(changeEvent(), origin)["ce-source"], "/pgevents/db/a%20%22b%22%20%C3%A9");
    assert.match(structuredBody(origin, changeEvent()), /"source":"\/pgevents\/db\/a \\"b\\" é"/);
  });

  test("headers of the HTTP binding's own example", () => {
    const headers = headersOf(changeEvent({ schema: "s", table: "Euro € 😀", key: null }));
    assert.equal(headers["ce-subject"], "s.Euro%20%E2%82%AC%20%F0%9F%98%80");
  });
});

/** Both modes give the subject back, and headers hold only what the HTTP binding allows. */
function agree(event: ChangeEvent): void {
  const subject = `${event.schema}.${event.table}/${event.key}`;
  const headers = headersOf(event);
  for (const value of Object.values(headers)) assert.match(value, /^[\x21\x23-\x7e]+$/);
  assert.equal(decodeURIComponent(headers["ce-subject"] as string), subject.toWellFormed());
  assert.equal(headers["ce-partitionkey"], headers["ce-subject"]);
  const binary = fromBinary(event);
  const structured = fromStructured(event);
  assert.equal(structured.subject, subject);
  assert.deepEqual(structuredClone(binary.data), structuredClone(structured.data));
  assert.deepEqual((structured.data as { relation: object }).relation, {
    schema: event.schema,
    table: event.table,
  });
}
