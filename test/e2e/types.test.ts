import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { CALLBACKS, classicProject, settingsText } from "../support/classic-project.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { runCli } from "../support/processes.ts";
import { compile } from "../support/typescript-compiler.ts";

const GUIDE = join(import.meta.dirname, "../../docs/types.md");
const CALLBACK = callbackTo("http://127.0.0.1:9");
const TABLES = `
  create type order_state as enum ('new', 'paid');
  create table orders (id integer primary key, state order_state not null, total numeric(10,2), tags text[]);
  create table lines (order_id integer, sku text not null, primary key (order_id, sku))`;

describe("pg-events types", () => {
  test("TypeScript as docs/types.md shows it, printed or written; nothing is changed in the database", async (t) => {
    const { database, run, directory } = await scene(t);
    const printed = await run();
    assert.deepEqual([printed.code, printed.stderr], [0, ""]);
    const file = join(directory, "deep", "events.d.ts");
    const written = await run("--output", file);
    assert.deepEqual(
      [written.code, written.stdout],
      [0, `Wrote the types of 2 tables to ${file}.\n`],
      written.stderr,
    );
    assert.equal(readFileSync(file, "utf8"), printed.stdout);
    await run("--output", join(directory, "into"));
    assert.equal(readFileSync(join(directory, "into/pg-events.d.ts"), "utf8"), printed.stdout);

    const [shown = "", used = ""] = [...readFileSync(GUIDE, "utf8").matchAll(/^```ts\n(.*?)^```$/gms)].map(
      ([, code]) => code,
    );
    assert.ok(printed.stdout.endsWith(shown));
    assert.equal(compile(t, { "pg-events.d.ts": printed.stdout, "orders.ts": withConsole(used) }), "");

    const { rows } = await database.query("select from pg_namespace where nspname = 'pgevents'");
    assert.equal(rows.length, 0);
  });

  test("a table that somebody has locked, and a database that is read-only, do not matter", async (t) => {
    const { database, run } = await scene(t);
    const { stdout } = await run();
    await database.query(`alter database ${database.name} set default_transaction_read_only = on`);
    await database.query("begin; lock table orders in access exclusive mode");
    const again = await run();
    assert.deepEqual([again.code, again.stderr], [0, ""]);
    assert.equal(again.stdout, stdout);
  });

  test("narrows by type, operation and table; what is wrong is an error", async (t) => {
    const { run } = await scene(t);
    const user = `import type { ChangeEvent, ClassicPayload, ClassicRow, RowEvent, SchemaChangeEvent } from "./pg-events.d.ts";

export function all(event: ChangeEvent | SchemaChangeEvent): unknown {
  if (event.type === "dev.pgevents.schema.changed") return event.data.change.object_identity;
  switch (event.data.operation) {
    case "Insert":
      return [event.data.new satisfies object, event.data.old satisfies null];
    case "Update":
      return event.data.oldKey?.length;
    case "Delete":
      return event.data.old satisfies object;
    case "Truncate":
      return event.data.key satisfies null;
  }
}

export function orders(data: RowEvent<"public.orders">): number {
  // @ts-expect-error
  data.new.id;
  if (data.operation === "Update") return data.new.id + data.key[0];
  // @ts-expect-error
  if (data.operation === "Insert") return data.new.state === "other" ? 1 : 0;
  return 0;
}

export function classic(row: ClassicRow): string | null {
  if (row.table_name === "lines" && row.method === "DELETE") return row.old_data.sku;
  // @ts-expect-error
  return row.new_data;
}

// @ts-expect-error
export const none: RowEvent<"public.none"> = null;
export const payload: ClassicPayload = {
  table_schema: "public",
  table_name: "lines",
  session_user: "a",
  method: "INSERT",
  new_data: { order_id: 1, sku: "a" },
  query: null,
};
`;
    assert.equal(compile(t, { "pg-events.d.ts": (await run()).stdout, "user.ts": user }), "");
  });

  test("JSON Schema as one document, and in a directory a file a table", async (t) => {
    const { run, directory } = await scene(t);
    const printed = await run("--format", "json-schema");
    assert.equal(printed.code, 0, printed.stderr);
    const validate = new Ajv2020({ strict: true }).compile(JSON.parse(printed.stdout));
    const data = {
      operation: "Insert",
      relation: { schema: "public", table: "lines" },
      key: [1, "a"],
      old: null,
      new: { order_id: 1, sku: "a" },
      transaction: { id: "1" },
      context: { session_user: "a", application_name: "b" },
    };
    assert.ok(validate(data), JSON.stringify(validate.errors));
    assert.ok(!validate({ ...data, key: [1] }));

    const file = join(directory, "events.json");
    await run("--format", "json-schema", "-o", file);
    assert.equal(readFileSync(file, "utf8"), printed.stdout);
    const schemas = join(directory, "schemas");
    const written = await run("--format", "json-schema", "-o", schemas);
    assert.equal(written.stdout, `Wrote the types of 2 tables to ${schemas}.\n`);
    assert.deepEqual(readdirSync(schemas).sort(), [
      "PublicLines.schema.json",
      "PublicOrders.schema.json",
      "SchemaChange.schema.json",
    ]);
    const lines = JSON.parse(readFileSync(join(schemas, "PublicLines.schema.json"), "utf8"));
    assert.match(lines.$id, /^urn:pg-events:default:test:table:public:lines:[0-9a-f]{12}$/);
    assert.ok(new Ajv2020({ strict: true }).compile(lines)(data));
  });

  test("the settings of the Python package, and a database that spec.database names", async (t) => {
    const { database, source, run, directory } = await scene(t);
    const project = classicProject(t, {
      "app/callbacks.mjs": CALLBACKS,
      "settings.yaml": settingsText("yaml", {
        PG_EVENTS_DATABASE_URL: database.url,
        PG_EVENTS_DATA_UPDATE_CALLBACK: "app.callbacks.onData",
        PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK: "app.callbacks.onSchema",
      }),
    });
    const classic = await project.run(["types", "--settings", "settings.yaml"]);
    assert.deepEqual([classic.code, classic.stderr], [0, ""]);
    assert.match(classic.stdout, /^export interface PublicOrders \{$/m);

    source.change({
      database: { secretRef: { name: "db" }, keys: { uri: "uri" }, tls: { mode: "Disable" } },
      callbacks: [CALLBACK],
    });
    mkdirSync(join(directory, "secrets/db"), { recursive: true });
    writeFileSync(join(directory, "secrets/db/uri"), database.url);
    const byRun = await runCli(t, ["types", "-f", source.manifest, "--secrets", join(directory, "secrets")], {
      env: { PG_EVENTS_DATABASE_URL: undefined },
    });
    assert.match(byRun.stdout, /^export interface PublicOrders \{$/m, byRun.stderr);
    assert.equal(byRun.stdout, (await run()).stdout);
  });

  test("what is wrong ends with one message and an exit code", async (t) => {
    const { source, run, directory } = await scene(t);
    source.change({
      callbacks: [CALLBACK],
      capture: {
        tables: [
          { schema: "public", name: "orders", operations: ["Insert"] },
          { schema: "public", name: "gone" },
        ],
      },
    });
    const gone = await run();
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /^TableNotFound: Table public\.gone does not exist/);
    assert.match(gone.stdout, /operation: "Insert";/);
    assert.doesNotMatch(gone.stdout, /PublicLines/);

    const blocked = join(directory, "source.yaml", "types.d.ts");
    const unwritable = await run("--output", blocked);
    assert.equal(unwritable.code, 1);
    assert.match(
      unwritable.stderr,
      /^PGE_FLAG_INVALID: --output: .*types\.d\.ts cannot be written: E[A-Z]+\.$/m,
    );
    assert.ok(!existsSync(blocked));

    const usage = await runCli(t, ["types", "--format", "xml"]);
    assert.deepEqual(
      [usage.code, /Allowed choices are typescript, json-schema/.test(usage.stderr)],
      [2, true],
    );
    const nothing = await runCli(t, ["types"]);
    assert.match(nothing.stderr, /one of '--manifest <file>' and '--settings <module>' is needed/);
    const away = await run("--database-url", "postgres://u:s3cr3t-value@127.0.0.1:9/d");
    assert.equal(away.code, 1);
    assert.match(away.stderr, /^PGE_CONNECTION_FAILED: .*ECONNREFUSED/);
    assert.doesNotMatch(away.stderr, /s3cr3t/);
  });
});

async function scene(t: Parameters<typeof testDatabase>[0]) {
  const database = await testDatabase(t, { owner: true });
  await database.query(TABLES);
  const source = localSource(t, database, { callbacks: [CALLBACK] });
  return {
    database,
    source,
    directory: dirname(source.manifest),
    run: (...flags: string[]) =>
      runCli(t, ["types", "-f", source.manifest, ...flags], {
        env: { PG_EVENTS_DATABASE_URL: database.url },
      }),
  };
}

/** The compiler runs without the types of Node.js. */
function withConsole(code: string): string {
  return `declare const console: { log(...values: unknown[]): void };\n${code}`;
}
