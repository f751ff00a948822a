import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { kafkaDestination, natsDestination } from "../../src/core/delivery/destination.ts";
import { changeEvent } from "../support/change-event.ts";

const TEMPLATE = "pgevents.{schema}.{table}.{operation}";

describe("subjects and topics", () => {
  const cases: [string, string, string, string][] = [
    ["orders", "public", "pgevents.public.orders.insert", "pgevents.public.orders.insert"],
    ["order_items-2", "Shop", "pgevents.Shop.order_items-2.insert", "pgevents.Shop.order_items-2D2.insert"],
    ["a.b", "*", "pgevents.%2A.a%2Eb.insert", "pgevents.-2A.a-2Eb.insert"],
    [">", "a b", "pgevents.a%20b.%3E.insert", "pgevents.a-20b.-3E.insert"],
    ["é%\n", "x", "pgevents.x.%C3%A9%25%0A.insert", "pgevents.x.-C3-A9-25-0A.insert"],
    ["🐘", "{table}", "pgevents.%7Btable%7D.%F0%9F%90%98.insert", "pgevents.-7Btable-7D.-F0-9F-90-98.insert"],
    ["$&", "$1", "pgevents.%241.%24%26.insert", "pgevents.-241.-24-26.insert"],
  ];
  for (const [table, schema, subject, topic] of cases) {
    test(`of ${JSON.stringify([schema, table])}`, () => {
      const event = changeEvent({ schema, table });
      assert.equal(natsDestination(TEMPLATE)(event), subject);
      assert.equal(kafkaDestination(TEMPLATE)(event), topic);
    });
  }

  test("without a placeholder are the same for all", () => {
    assert.equal(natsDestination("all")(changeEvent()), "all");
  });

  test("follow the operation", () => {
    const of = natsDestination("{operation}");
    assert.equal(of(changeEvent({ operation: "Delete" })), "delete");
    assert.equal(of(changeEvent({ operation: "SchemaChange" })), "schemachange");
    assert.equal(of(changeEvent({ operation: "Delete" })), "delete");
  });

  test("of different tables differ, and hold nothing that a broker would refuse", () => {
    const name = fc.string({ minLength: 1, maxLength: 20, unit: "grapheme" });
    const nats = natsDestination("{schema}.{table}");
    const kafka = kafkaDestination("{schema}.{table}");
    fc.assert(
      fc.property(name, name, name, name, (schema, table, schema2, table2) => {
        fc.pre(schema !== schema2 || table !== table2);
        const [one, other] = [
          changeEvent({ schema, table }),
          changeEvent({ schema: schema2, table: table2 }),
        ];
        assert.notEqual(nats(one), nats(other));
        assert.notEqual(kafka(one), kafka(other));
        assert.match(nats(one), /^[\w%-]+\.[\w%-]+$/);
        assert.match(kafka(one), /^[\w-]+\.[\w-]+$/);
      }),
    );
  });
});
