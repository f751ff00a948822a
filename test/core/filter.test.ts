import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { eventFilter } from "../../src/core/delivery/filter.ts";
import { changeEvent } from "../support/change-event.ts";
import { source } from "../support/crd-cases.ts";

const HTTP = { http: { uri: "https://a/" } };
const MODULE = { module: { path: "/app/a.mjs" } };
const EVENTS = {
  insert: changeEvent(),
  update: changeEvent({ operation: "Update" }),
  elsewhere: changeEvent({ table: "items" }),
  schema: changeEvent({ operation: "SchemaChange", key: null }),
  schemaElsewhere: changeEvent({ operation: "SchemaChange", key: null, table: "items" }),
};

function wanted(callback: object): string[] {
  const manifest = source({ callbacks: [{ name: "a", ...callback }] });
  const [spec] = parsePgEventSource(manifest, "the case").spec.callbacks;
  assert.ok(spec !== undefined);
  const { wants } = eventFilter(spec, assert.fail);
  return Object.entries(EVENTS).flatMap(([name, event]) => (wants(event) ? [name] : []));
}

const orders = { tables: [{ schema: "public", name: "orders" }] };
const cases: [string, object, string[]][] = [
  ["http gets rows", HTTP, ["insert", "update", "elsewhere"]],
  ["a module gets all", MODULE, ["insert", "update", "elsewhere", "schema", "schemaElsewhere"]],
  ["Exclude", { ...MODULE, filter: { schemaChanges: "Exclude" } }, ["insert", "update", "elsewhere"]],
  [
    "Include",
    { ...HTTP, filter: { schemaChanges: "Include" } },
    ["insert", "update", "elsewhere", "schema", "schemaElsewhere"],
  ],
  ["Only", { ...HTTP, filter: { schemaChanges: "Only" } }, ["schema", "schemaElsewhere"]],
  ["tables", { ...HTTP, filter: orders }, ["insert", "update"]],
  ["tables hold for both", { ...MODULE, filter: orders }, ["insert", "update", "schema"]],
  [
    "operations are of rows",
    { ...MODULE, filter: { operations: ["Update"], ...orders } },
    ["update", "schema"],
  ],
  [
    "all tables of a schema",
    { ...HTTP, filter: { tables: [{ schema: "public", name: "*" }] } },
    ["insert", "update", "elsewhere"],
  ],
  ["another schema", { ...MODULE, filter: { tables: [{ schema: "other", name: "*" }] } }, []],
];

describe("what a callback wants", () => {
  for (const [title, callback, names] of cases) test(title, () => assert.deepEqual(wanted(callback), names));
});
