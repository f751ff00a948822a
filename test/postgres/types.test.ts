import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { type CaptureSpec, OPERATIONS, type TableSpec } from "../../src/core/api/capture.ts";
import { classicPayload } from "../../src/core/delivery/classic.ts";
import { eventData, structuredBody } from "../../src/core/delivery/cloudevents.ts";
import type { ChangeEvent, EventOperation } from "../../src/core/event.ts";
import type { EventTypes } from "../../src/core/types/events.ts";
import { jsonSchemaDocument, jsonSchemas } from "../../src/core/types/json-schema.ts";
import { typescriptText } from "../../src/core/types/typescript.ts";
import { TYPESCRIPT_NAMES } from "../../src/core/types/typescript-prelude.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { readEventTypes } from "../../src/postgres/event-types.ts";
import { captureSpec, tableSpec } from "../support/capture-spec.ts";
import { ORIGIN } from "../support/change-event.ts";
import { serverMajor, type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";
import { CASES, DEFINITIONS, EXTENSION_CASES, type TypeCase } from "../support/type-cases.ts";
import { compile } from "../support/typescript-compiler.ts";

const SOURCE = { namespace: "default", name: "test" };

type Columns = NonNullable<TableSpec["columns"]>;

describe("types of captured rows", () => {
  test("each type of PostgreSQL is what is captured of it", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(DEFINITIONS);
    await checkCases(t, database, CASES);
  });

  test("those of extensions, too, also where row_to_json uses a cast", async (t) => {
    const database = await testDatabase(t);
    const names = ["hstore", "citext", "cube", "ltree"];
    const { rows } = await database.query("select from pg_available_extensions where name = any ($1)", [
      names,
    ]);
    if (rows.length < names.length) return t.skip("the server comes without the extensions");
    for (const name of names) await database.query(`create extension ${name}`);
    await checkCases(t, database, EXTENSION_CASES);
  });

  test("null is where rows can hold it: NOT NULL of the column counts, that of its domain does not", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`
      create domain needed as integer not null;
      create table kinds (
        id integer generated always as identity primary key,
        plain text, strict text not null, of_domain needed, both_of_them needed not null,
        stored integer generated always as (1 + 1) stored, document jsonb not null)`);
    await capture(database);
    await database.query(
      "insert into kinds (strict, of_domain, both_of_them, document) values ('a', (select 1::needed where false), 1, 'null')",
    );
    const { row, types } = await checkEvents(t, database, "PublicKinds");
    assert.deepEqual(row[0], {
      id: 1,
      plain: null,
      strict: "a",
      of_domain: null,
      both_of_them: 1,
      stored: 2,
      document: null,
    });
    assert.deepEqual(typesIn(types, "PublicKinds"), {
      id: "number",
      plain: "string | null",
      strict: "string",
      of_domain: "number | null",
      both_of_them: "number",
      stored: "number | null",
      document: "unknown",
    });
  });

  test("PostgreSQL 18: virtual columns are null in events, and NOT NULL may be unproven", async (t) => {
    const database = await testDatabase(t, { owner: true });
    if ((await serverMajor(database)) < 18) return t.skip("only from PostgreSQL 18 on");
    await database.query(`
      create table late (
        id integer primary key, twice integer generated always as (id * 2) virtual not null,
        unproven text, proven text);
      insert into late (id, proven) values (1, 'a')`);
    await database.query(`
      alter table late add constraint unproven_there not null unproven not valid;
      alter table late add constraint proven_there not null proven not valid;
      alter table late validate constraint proven_there`);
    await capture(database);
    await database.query("delete from late");
    const { row, types } = await checkEvents(t, database, "PublicLate");
    assert.deepEqual(row, [{ id: 1, twice: null, unproven: null, proven: "a" }]);
    assert.deepEqual(typesIn(types, "PublicLate"), {
      id: "number",
      twice: "null",
      unproven: "string | null",
      proven: "string",
    });
  });

  test("each operation, keys of every kind, partitions, inheritance, and changes of tables", async (t) => {
    const database = await testDatabase(t);
    const spec = { context: { query: true, settings: ["app.user"], traceparent: "app.trace" } };
    await database.query(`
      create table pairs (b bigint, a text, c numeric, primary key (a, b), unique (c));
      create table loose (a float8);
      create table "Odd ""*/ name" ("__proto__" integer primary key, "a b" text);
      comment on table "Odd ""*/ name" is '*/ }';
      comment on column "Odd ""*/ name"."a b" is E'@ts-expect-error';
      create table parted (id integer primary key, note text) partition by range (id);
      create table parted_1 (note text, id integer not null);
      alter table parted attach partition parted_1 for values from (0) to (10);
      create table mother (id integer primary key, a text not null);
      create table child (b integer not null) inherits (mother)`);
    await capture(database, spec);
    await database.query(`
      select set_config('app.user', 'me', false);
      insert into pairs values (1, 'x'); update pairs set b = 2; update pairs set c = 3; delete from pairs; truncate pairs;
      insert into loose values ('nan'); update loose set a = 1; delete from loose; truncate loose;
      insert into "Odd ""*/ name" values (1, 'a'); update "Odd ""*/ name" set "a b" = 'c';
      insert into parted values (1, 'a'); update parted set note = 'b'; delete from parted_1; truncate parted;
      insert into mother values (1, 'a'); insert into child values (2, 'b', 3); update mother set a = 'c';
      alter table loose add b text; create table come (a integer); alter table pairs drop column c; drop table come`);
    await database.query("alter table pairs add c numeric; alter table loose drop b");
    const { events } = await checkEvents(t, database, "PublicPairs", spec);
    const seen = new Set(events.map(({ operation, table }) => `${operation} ${table}`));
    for (const one of [
      "Update pairs",
      "Truncate parted",
      "Truncate parted_1",
      "Insert child",
      "SchemaChange come",
    ])
      assert.ok(seen.has(one), one);
  });

  test("columns that are left out, masked and hashed; a key that lacks a column is none", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`
      create table people (id integer primary key, name text not null, card text, pay numeric, doc jsonb not null);
      create table keyed (mail text primary key, born date);
      create table hidden (mail text primary key, n integer);
      create table lost (id integer primary key)`);
    const entry = (name: string, columns: Columns) => {
      return { schema: "public", name, operations: [...OPERATIONS], columns };
    };
    const tables = [
      entry("people", { exclude: ["pay"], mask: ["card", "doc"], hash: ["name"] }),
      entry("keyed", { include: ["mail"], hash: ["mail"] }),
      entry("hidden", { exclude: ["mail"] }),
    ];
    await capture(database, { tables });
    await database.query(`
      insert into people values (1, 'Ada', '4111', 12.5, 'null'), (2, 'Eda', null, null, '1'); update people set pay = 13;
      insert into keyed values ('a@b.c', now()); insert into hidden values ('a@b.c', 1); delete from hidden`);
    const { types, row } = await checkEvents(t, database, "PublicPeople", { tables });
    assert.deepEqual(
      row.slice(0, 2).map(({ card, doc }) => [card, doc]),
      [
        ["***", null],
        [null, "***"],
      ],
    );
    assert.deepEqual(typesIn(types, "PublicPeople"), {
      id: "number",
      name: "string",
      card: '"***" | null',
      doc: '"***" | null',
    });
    assert.deepEqual(typesIn(types, "PublicKeyed"), { mail: "string" });
    assert.match(types, /row: PublicHidden;\n {4}key: null;/);
    const missing = { tables: [entry("lost", { exclude: ["gone"] })] };
    const { types: lost } = await readEventTypes(database.settings, captureSpec(missing), []);
    assert.deepEqual(lost.tables[0]?.fields, []);
  });

  test("payload: of an Update only what it changed, and the key; or the key only", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`
      create table changes (id integer, part text, n integer, note text not null, card text, primary key (id, part));
      create table chosen (id integer primary key, code text not null, n integer, secret text);
      create table loose (n integer, note text not null);
      create table parted (id integer primary key, n integer) partition by range (id);
      create table parted_1 partition of parted default;
      create table keys (id integer primary key, mail text not null, n integer)`);
    const tables: TableSpec[] = [
      tableSpec({ name: "changes", payload: "Changes", columns: { hash: ["part"], mask: ["card"] } }),
      tableSpec({ name: "chosen", payload: "Changes", key: ["code"], columns: { exclude: ["secret"] } }),
      tableSpec({ name: "loose", payload: "Changes" }),
      tableSpec({ name: "parted", payload: "Changes" }),
      tableSpec({ name: "keys", payload: "Key", key: ["mail"], columns: { hash: ["mail"] } }),
    ];
    await capture(database, { tables });
    await database.query(`
      insert into changes values (1, 'a', 1, 'x', '4111'); update changes set n = 2; update changes set id = 3, card = null;
      update changes set part = 'b'; update changes set note = note; delete from changes; truncate changes;
      insert into chosen values (1, 'a', 1, 's'); update chosen set secret = 't'; update chosen set code = 'b'; delete from chosen;
      insert into loose values (1, 'x'); update loose set n = null; update loose set n = n; delete from loose;
      insert into parted values (1, 1); update parted set n = 2; update parted_1 set id = 2; delete from parted;
      insert into keys values (1, 'a@b.c', 1); update keys set n = 2; update keys set mail = 'b@b.c'; delete from keys`);
    const { types, events } = await checkEvents(t, database, "PublicChanges", { tables });
    const updates = (table: string) =>
      events
        .filter((event) => event.operation === "Update" && event.table === table)
        .map(({ key, oldKey, old, new: now }) =>
          [oldKey, key, old, now].map((json) => JSON.parse(json ?? "null")),
        );
    assert.deepEqual(updates("chosen"), [
      [null, ["a"], { code: "a" }, { code: "a" }],
      [["a"], ["b"], { code: "a" }, { code: "b" }],
    ]);
    assert.deepEqual(updates("parted"), [
      [null, [1], { id: 1, n: 1 }, { id: 1, n: 2 }],
      [[1], [2], { id: 1 }, { id: 2 }],
    ]);
    assert.deepEqual(updates("loose"), [
      [null, null, { n: 1 }, { n: null }],
      [null, null, {}, {}],
    ]);
    assert.deepEqual(
      updates("changes").map(([, , old, now]) => [Object.keys(old), Object.keys(now)]),
      [["n"], ["card"], [], []].map((more) => [
        ["id", "part", ...more],
        ["id", "part", ...more],
      ]),
    );
    assert.match(types, /changed: Partial<PublicChanges> & Pick<PublicChanges, "id" \| "part">;/);
    assert.match(types, /changed: Partial<PublicLoose>;/);
    assert.deepEqual(typesIn(types, "PublicKeys"), { mail: "string" });
  });

  test("only the tables of the spec, only its operations; tables that are missing are told of", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(
      "create table one (a text); create table two (a text); create view three as select 1 as a",
    );
    const tables: CaptureSpec["tables"] = [
      { schema: "public", name: "one", operations: ["Delete"] },
      { schema: "public", name: "none", operations: ["Delete"] },
      { schema: "public", name: "three", operations: ["Delete"] },
    ];
    const { plan, types } = await readEventTypes(database.settings, captureSpec({ tables }), []);
    assert.deepEqual(
      plan.findings.map(({ code }) => code),
      ["TableNotFound", "TableNotSupported"],
    );
    assert.deepEqual(
      types.tables.map(({ name, operations }) => [name, operations]),
      [["one", ["Delete"]]],
    );
    const left = await database.query("select from pg_namespace where nspname = 'pgevents'");
    assert.equal(left.rows.length, 0);
  });
});

/** A table with a column for each case; each value is written and captured by itself. */
async function checkCases(t: TestEnd, database: TestDatabase, cases: readonly TypeCase[]): Promise<void> {
  const columns = cases.map(({ sql }, index) => `c${index} ${sql}`).join(", ");
  await database.query(`create table all_types (id integer generated always as identity, ${columns})`);
  await capture(database);
  const values = cases.flatMap(({ values }, index) =>
    Object.entries(values).map(([sql, json]) => ({ column: `c${index}`, sql, json })),
  );
  for (const { column, sql } of values) {
    await database.query(`insert into all_types (${column}) values (${sql})`);
  }
  await database.query(
    "insert into all_types default values; update all_types set id = default; delete from all_types",
  );
  const { row, types } = await checkEvents(t, database, "PublicAllTypes");
  for (const [index, { column, sql, json }] of values.entries())
    assert.deepEqual(row[index]?.[column], json, `${column} ${sql}`);
  const nullable = (type: string) => (type === "unknown" ? type : `${type} | null`);
  const expected = cases.map(({ type }, index) => [`c${index}`, nullable(type)]);
  assert.deepEqual(typesIn(types, "PublicAllTypes"), { id: "number", ...Object.fromEntries(expected) });
}

async function capture(database: TestDatabase, spec: Partial<CaptureSpec> = {}): Promise<void> {
  const request = {
    capture: captureSpec(spec),
    callbacks: ["a"],
    owner: "manifest:default/test",
    version: "1",
  };
  const { failures } = await buildCapture(database.settings, request, { mode: "apply" });
  assert.deepEqual(failures, []);
}

/**
 * Everything captured passes the schemas and the compiler, and nothing does that is a little different.
 * @returns the events, the rows of those of one table, and the text with the types
 */
async function checkEvents(
  t: TestEnd,
  database: TestDatabase,
  rowType: string,
  spec: Partial<CaptureSpec> = {},
) {
  const { types } = await readEventTypes(database.settings, captureSpec(spec), TYPESCRIPT_NAMES);
  const events = await outbox(database);
  assert.ok(events.length > 0);
  checkSchemas(events, types);

  const text = typescriptText(types);
  const changes = events.filter(({ operation }) => operation !== "SchemaChange");
  const others = events.filter(({ operation }) => operation === "SchemaChange");
  const literals = (some: readonly ChangeEvent[], write: (event: ChangeEvent) => string) =>
    some.map((event) => `  ${inTypeScript(write(event))},\n`).join("");
  const structured = (event: ChangeEvent) => structuredBody(ORIGIN, event);
  const user = `import type { ChangeEvent, ClassicPayload, ClassicRow, SchemaChangeEvent } from "./events.d.ts";
export const changes: ChangeEvent[] = [\n${literals(changes, structured)}];
export const others: SchemaChangeEvent[] = [\n${literals(others, structured)}];
export const classic: ClassicRow[] = [\n${literals(changes, classicPayload)}];
export const payloads: ClassicPayload[] = [\n${literals(others, classicPayload)}];
`;
  assert.equal(compile(t, { "events.d.ts": text, "user.ts": user }), "");

  const table = types.tables.find(({ typeName }) => typeName === rowType);
  const row = changes
    .filter((event) => event.schema === table?.schema && event.table === table.name)
    .flatMap((event) => JSON.parse(event.new ?? event.old ?? "[]") as Record<string, unknown>[]);
  return { events, row, types: text };
}

function checkSchemas(events: readonly ChangeEvent[], types: EventTypes): void {
  const whole = new Ajv2020({ strict: true }).compile(jsonSchemaDocument(types, SOURCE));
  const each = [...jsonSchemas(types, SOURCE).values()].map((schema) =>
    new Ajv2020({ strict: true }).compile(schema),
  );
  for (const event of events) {
    const data = JSON.parse(eventData(event)) as Record<string, unknown>;
    assert.ok(whole(data), `${JSON.stringify(data)}: ${JSON.stringify(whole.errors)}`);
    assert.equal(each.filter((validate) => validate(data)).length, 1, JSON.stringify(data));
    assert.ok(!whole({ ...data, operation: "Other" }));
    for (const image of ["old", "new"] as const) {
      for (const column of Object.keys((data[image] as object | null) ?? {})) {
        const { [column]: _, ...less } = data[image] as Record<string, unknown>;
        if (column === "__proto__") continue;
        assert.equal(
          whole({ ...data, [image]: less }),
          mayMiss(event, column, types),
          `${column} is missing`,
        );
      }
    }
  }
}

function mayMiss({ operation, schema, table }: ChangeEvent, column: string, { tables }: EventTypes): boolean {
  const { unchanged = null } = tables.find((one) => one.schema === schema && one.name === table) ?? {};
  return operation === "Update" && unchanged !== null && !unchanged.some(({ name }) => name === column);
}

/** JSON as an expression; `__proto__` would be no field there. */
function inTypeScript(json: string): string {
  return json.replaceAll('"__proto__":', '["__proto__"]:');
}

const OPERATION_OF: Readonly<Record<string, EventOperation>> = {
  I: "Insert",
  U: "Update",
  D: "Delete",
  T: "Truncate",
  S: "SchemaChange",
};

async function outbox({ query }: TestDatabase): Promise<ChangeEvent[]> {
  const { rows } = await query<Record<string, string>>(
    `select id::text, operation::text, schema_name, table_name, key, old_key, old::text, new::text, context::text, schema_version
    from pgevents.change_events() order by change_events.id`,
  );
  return rows.map(({ id = "", operation = "", schema_name = "", table_name = "", ...row }) => ({
    id,
    transactionId: "7",
    time: "2026-11-24T12:00:00.123456Z",
    operation: OPERATION_OF[operation] as EventOperation,
    schema: schema_name,
    table: table_name,
    key: row.key ?? null,
    oldKey: row.old_key ?? null,
    old: row.old ?? null,
    new: row.new ?? null,
    context: row.context ?? "",
    schemaVersion: row.schema_version ?? null,
  }));
}

/** Types of the properties of an interface, by name. */
function typesIn(text: string, name: string): Record<string, string> {
  const from = text.indexOf(`export interface ${name} {`);
  const body = text.slice(from, text.indexOf("\n}\n", from));
  return Object.fromEntries(
    [...body.matchAll(/^ {2}(\w+): (.*);$/gm)].map(([, property = "", type = ""]) => [property, type]),
  );
}
