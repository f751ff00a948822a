/** `dataschema`: each event names the JSON Schema that it fits, also while its table changes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { captureNames } from "../../src/core/capture/names.ts";
import { eventData } from "../../src/core/delivery/cloudevents.ts";
import { dataSchemaOf, schemaId } from "../../src/core/schema-id.ts";
import { jsonSchemas } from "../../src/core/types/json-schema.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { storeDeadLetter } from "../../src/postgres/dead-letters.ts";
import { readEventTypes } from "../../src/postgres/event-types.ts";
import { captured } from "../support/capture-scene.ts";
import { captureSpec, tableSpec } from "../support/capture-spec.ts";
import { ORIGIN } from "../support/change-event.ts";

const SOURCE = { namespace: "shop", name: "orders" };
const origin = { ...ORIGIN, schemas: schemaId(SOURCE) };

for (const [mode, owner] of [
  ["EventTrigger", false],
  ["Poll", true],
] as const)
  test(`the version changes with the table and the spec, after the change is told: ${mode}`, async (t) => {
    const scene = await captured(
      t,
      `create table orders (id integer primary key, total integer, card text); create table "a:b" (id integer primary key)`,
      { owner },
    );
    const versions: string[] = [];
    const schemas = new Map<string, object>();
    const next = async (change: string | null, spec: Partial<CaptureSpec> = {}) => {
      if (change !== null) await scene.query(change);
      if (change === null || mode === "Poll") await scene.build(spec);
      const { types } = await readEventTypes(scene.settings, captureSpec(spec), []);
      for (const schema of jsonSchemas(types, SOURCE).values()) schemas.set(String(schema.$id), schema);
      const { version } = types.tables.find(({ name }) => name === "orders") ?? {};
      versions.push(version ?? "");
      await scene.query("insert into orders (id) values ($1)", [versions.length]);
      await scene.query("update orders set total = '1' where id = $1", [versions.length]);
    };
    await next(null);
    await next("alter table orders add column note text not null default ''");
    await next("alter table orders alter column total type text");
    await next("alter table orders alter column note drop not null");
    await next(null, { tables: [tableSpec({ name: "orders", columns: { mask: ["card"] } })] });
    await next(null, { tables: [tableSpec({ name: "orders", key: ["total"] })] });
    await next(null);
    assert.equal(new Set(versions).size, 6, "the last is the one before the spec was changed");
    assert.equal(versions[6], versions[3]);

    const { rows } = await scene.query<{ line: string; schema_version: string | null }>(`
      select operation::text || coalesce((new::json ->> 'id'), '') as line, schema_version from pgevents.change_events()
      where table_name = 'orders' order by id`);
    const expected = versions.flatMap((version, index) => [
      ...(index >= 1 && index <= 3 ? [["S", null]] : []),
      [`I${index + 1}`, version],
      [`U${index + 1}`, version],
    ]);
    const lines = rows.map(({ line, schema_version }) => [line, schema_version]);
    // Of a NOT NULL that goes PostgreSQL 18 tells twice: it is a constraint as well.
    assert.deepEqual(
      lines.filter(([line], index) => line !== "S" || lines[index - 1]?.[0] !== "S"),
      expected,
    );
    const ajv = new Ajv2020({ strict: true });
    const events = await scene.told();
    assert.equal(events.length, 14);
    for (const event of events) {
      const schema = schemas.get(dataSchemaOf(origin, event) ?? "");
      assert.ok(schema !== undefined, `no schema ${dataSchemaOf(origin, event)}`);
      assert.ok(ajv.validate(schema, JSON.parse(eventData(event))), `${event.new} ${ajv.errorsText()}`);
    }
  });

test("a table's name is a part of it, whatever it holds; Truncate names none; a dead letter keeps it", async (t) => {
  const scene = await captured(t, 'create table "a:b/é" (id integer primary key)');
  await scene.query('insert into "a:b/é" values (1); truncate "a:b/é"');
  const [insert, truncate] = await scene.told();
  assert.ok(insert !== undefined && truncate !== undefined);
  assert.match(
    dataSchemaOf(origin, insert) ?? "",
    /^urn:pg-events:shop:orders:table:public:a%3Ab%2F%C3%A9:[0-9a-f]{12}$/,
  );
  assert.equal(dataSchemaOf(origin, truncate), null);
  assert.equal(dataSchemaOf(ORIGIN, insert), null);
  const pool = createPool(scene.settings, "worker", 1);
  t.after(() => pool.end());
  const { id, transactionId } = insert;
  await storeDeadLetter(pool, captureNames("pgevents"), {
    callback: "a",
    id,
    transactionId,
    attempts: 1,
    error: "x",
    letterOf: "",
    forward: null,
  });
  const { rows } = await scene.query("select schema_version from pgevents.dead_letter");
  assert.deepEqual(rows, [{ schema_version: insert.schemaVersion }]);
});
