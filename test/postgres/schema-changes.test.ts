import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { type BuildReport, buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";

const OWNER = "manifest:default/test";

interface Scene {
  readonly database: TestDatabase;
  build(capture?: Partial<CaptureSpec>): Promise<BuildReport>;
  /** What lies in the outbox, each event in a few words, and empties it. */
  told(): Promise<string[]>;
  /** The payloads of schema changes, and empties the outbox. */
  changes(): Promise<Record<string, unknown>[]>;
}

/** @param owner the role is an ordinary one, which may make no event trigger */
async function scene(t: TestContext, owner: boolean, tables = ""): Promise<Scene> {
  const database = await testDatabase(t, { owner });
  await database.query(tables);
  const rows = async () => {
    const { rows } = await database.query<{ words: string; change: Record<string, unknown> }>(`
      select concat_ws(' ', operation, schema_name || '.' || table_name,
        new::json ->> 'command_tag', new::json ->> 'object_type', new::json ->> 'original', key) as words,
        case when operation = 'S' then new::json end as change
      from pgevents.change_events() order by id`);
    await database.query("truncate pgevents.outbox");
    return rows;
  };
  return {
    database,
    build: (capture = {}) =>
      buildCapture(
        database.settings,
        { capture: captureSpec(capture), callbacks: ["a"], owner: OWNER, version: "1" },
        { mode: "apply" },
      ),
    told: async () => (await rows()).map(({ words }) => words),
    changes: async () => (await rows()).flatMap(({ change }) => (change === null ? [] : [change])),
  };
}

describe("by event triggers, as a superuser", () => {
  test("a new table is captured in the transaction that makes it, after the event that tells of it", async (t) => {
    const { database, build, told } = await scene(t, false);
    assert.equal((await build()).schemaChangeMode, "EventTrigger");
    await database.query(`begin; create table "MiXed; --" (id integer primary key);
      insert into "MiXed; --" values (1); alter table "MiXed; --" add column a text; update "MiXed; --" set a = 'x'; commit`);
    assert.deepEqual(await told(), [
      "S public.MiXed; -- CREATE TABLE table",
      "S public.MiXed; -- CREATE INDEX index",
      "I public.MiXed; -- [1]",
      "S public.MiXed; -- ALTER TABLE table",
      "U public.MiXed; -- [1]",
    ]);
    assert.equal((await build()).changed, false);
  });

  test("a primary key that changes gives the triggers their new columns in the same transaction", async (t) => {
    const { database, build, told } = await scene(
      t,
      false,
      "create table orders (id int primary key, other int)",
    );
    await build();
    await database.query("alter table orders drop constraint orders_pkey, add primary key (other, id)");
    await database.query("insert into orders values (1, 2)");
    assert.equal((await told()).at(-1), "I public.orders [2,1]");
    assert.equal((await build()).changed, false);
  });

  test("only what the spec asks for is captured: tables, exclusions and operations", async (t) => {
    const { database, build, told } = await scene(t, false, "create schema other");
    await build({
      tables: [
        { schema: "public", name: "*", exclude: ["secret"], operations: ["Insert", "Delete"] },
        { schema: "public", name: "special", operations: ["Update"] },
      ],
    });
    for (const name of ["plain", "special", "secret", "other.table_of"])
      await database.query(
        `create table ${name} (id int primary key); insert into ${name} values (1); update ${name} set id = 2; delete from ${name}`,
      );
    const rows = (await told()).filter((words) => !words.startsWith("S"));
    assert.deepEqual(rows, ["I public.plain [1]", "D public.plain [2]", "U public.special [2]"]);
    assert.equal(
      (
        await build({
          tables: [
            { schema: "public", name: "*", exclude: ["secret"], operations: ["Insert", "Delete"] },
            { schema: "public", name: "special", operations: ["Update"] },
          ],
        })
      ).changed,
      false,
    );
  });

  test("the keys of each kind of change, with the values that PostgreSQL gives", async (t) => {
    const { database, build, changes } = await scene(
      t,
      false,
      'create schema "S"; create table "S"."T" (id int, a int)',
    );
    await build();
    const { rows } = await database.query(`select '"S"."T"'::regclass::oid::text as oid`);
    const objid = rows[0]?.oid;
    await database.query('alter table "S"."T" drop column a; drop table "S"."T"');
    const common = { classid: "1259", objid, schema_name: "S" };
    assert.deepEqual(await changes(), [
      {
        ...common,
        objsubid: 2,
        original: true,
        normal: false,
        is_temporary: false,
        object_type: "table column",
        object_name: null,
        object_identity: '"S"."T".a',
      },
      {
        ...common,
        objsubid: 0,
        command_tag: "ALTER TABLE",
        object_type: "table",
        object_identity: '"S"."T"',
        in_extension: false,
      },
      {
        ...common,
        objsubid: 0,
        original: true,
        normal: false,
        is_temporary: false,
        object_type: "table",
        object_name: "T",
        object_identity: '"S"."T"',
      },
    ]);
  });

  test("CREATE TABLE AS, SELECT INTO, tables within CREATE SCHEMA, and those that DROP SCHEMA takes along", async (t) => {
    const { database, build, told } = await scene(t, false);
    await build();
    await database.query(
      "create table a as select 1 as x; select 1 as x into b; create schema s create table c (x int); drop schema s cascade",
    );
    assert.deepEqual(await told(), [
      "S public.a CREATE TABLE AS table",
      "S public.b SELECT INTO table",
      "S s.c CREATE TABLE table",
      "S s.c table false",
    ]);
    await database.query("insert into a values (1); insert into b values (1)");
    assert.deepEqual(await told(), ["I public.a", "I public.b"]);
  });

  test("a table that an ordinary role makes is captured, and its temporary ones are only told of", async (t) => {
    const { database, build, told } = await scene(t, false);
    await build();
    const role = `maker_${database.name}`;
    await database.query(`create role ${role}; grant create on schema public to ${role}`);
    await database.query(
      `set role ${role}; create table theirs (id integer primary key); insert into theirs values (1)`,
    );
    await database.query(
      "create temporary table scratch (id integer); insert into scratch values (1); drop table scratch; reset role",
    );
    assert.deepEqual(await told(), [
      "S public.theirs CREATE TABLE table",
      "S public.theirs CREATE INDEX index",
      "I public.theirs [1]",
      "S pg_temp.scratch CREATE TABLE table",
      "S pg_temp.scratch table true",
    ]);
    await database.query(`drop owned by ${role}; drop role ${role}`);
  });

  test("G6 what is rolled back is neither told of nor captured", async (t) => {
    const { database, build, told } = await scene(t, false);
    await build();
    await database.query(
      "begin; create table gone (id int primary key); insert into gone values (1); rollback",
    );
    assert.deepEqual(await told(), []);
  });

  test("a command takes no stronger lock than before on a table that is captured", async (t) => {
    const { database, build } = await scene(t, false, "create table orders (id int primary key)");
    await build();
    const writer = await connect(t, database.url);
    await writer.query("begin; insert into orders values (1)");
    // SHARE UPDATE EXCLUSIVE, which goes along with the writer; a trigger would want SHARE ROW EXCLUSIVE.
    await database.query("set lock_timeout = '500ms'; alter table orders set (fillfactor = 90)");
    await writer.query("commit");
  });

  test("a command does not fail for us: it gets a warning, and the next build captures the table", async (t) => {
    const { database, build } = await scene(t, false);
    await build();
    const warnings: string[] = [];
    database.client.on("notice", ({ message }) => warnings.push(message ?? ""));
    await database.query("alter function pgevents.capture_table rename to broken");
    await database.query("create table orders (id int primary key)");
    assert.match(
      warnings.join(),
      /pg-events does not capture public\.orders as it should \(SQLSTATE 42883\)/,
    );
    assert.ok((await build()).actions.some(({ id }) => id === "table:public.orders"));
  });

  test("drift is healed: event triggers that were dropped, disabled or changed", async (t) => {
    const { database, build } = await scene(t, false);
    await build();
    for (const drift of [
      "drop event trigger pgevents_sql_drop",
      "alter event trigger pgevents_ddl_command_end disable",
      "drop event trigger pgevents_sql_drop; create event trigger pgevents_sql_drop on sql_drop execute function pgevents.objects_dropped()",
      "alter event trigger pgevents_sql_drop rename to mine",
    ]) {
      await database.query(drift);
      assert.deepEqual(
        (await build()).actions.map(({ id }) => id),
        ["schema-changes"],
        drift,
      );
      assert.equal((await build()).changed, false, drift);
    }
  });

  test("two captures of one database follow changes side by side", async (t) => {
    const { database, build } = await scene(t, false);
    await build();
    await buildCapture(
      database.settings,
      {
        capture: captureSpec({ schemaName: "other" }),
        callbacks: ["a"],
        owner: "manifest:default/other",
        version: "1",
      },
      { mode: "apply" },
    );
    await database.query("create table orders (id int primary key); insert into orders values (1)");
    for (const schema of ["pgevents", "other"]) {
      const { rows } = await database.query(
        `select string_agg(operation::text, '' order by id) as told from ${schema}.change_events()`,
      );
      assert.deepEqual(rows, [{ told: "SSI" }], schema);
    }
    await removeCapture(database.settings, { schemaName: "other", owner: "manifest:default/other" });
    assert.equal((await build()).changed, false);
  });
});

describe("by comparison, as an ordinary role", () => {
  test("the first build tells of nothing, the next ones of what differs, each change once", async (t) => {
    const { database, build, told } = await scene(
      t,
      true,
      "create table old (id int primary key, a int, b int)",
    );
    assert.equal((await build()).schemaChangeMode, "Poll");
    assert.deepEqual(await told(), []);
    await database.query('alter table old drop column a; create table "MiXed" (id serial primary key)');
    assert.deepEqual(
      (await build()).actions.map(({ id }) => id),
      ["tell-schema-changes", "table:public.MiXed", "table:public.old"],
    );
    assert.deepEqual(await told(), [
      "S public.old table column true",
      "S public.old ALTER TABLE table",
      "S public.MiXed CREATE TABLE table",
    ]);
    assert.equal((await build()).changed, false);
    assert.deepEqual(await told(), []);
    await database.query(
      'drop table old; create table old (id int primary key); alter table "MiXed" rename to mixed',
    );
    await build();
    assert.deepEqual(await told(), [
      "S public.old table true",
      "S public.mixed ALTER TABLE table",
      "S public.old CREATE TABLE table",
    ]);
  });

  test("the keys and values are those of the event triggers", async (t) => {
    const tables = 'create schema "S"; create table "S"."T" (id int, "a b" int)';
    const script = [
      'alter table "S"."T" drop column "a b"',
      'create table "S".u (id int)',
      'drop table "S"."T"',
    ];
    const seen = [];
    for (const owner of [false, true]) {
      const { database, build, changes } = await scene(t, owner, tables);
      await build();
      for (const statement of script) {
        await database.query(statement);
        await build();
      }
      seen.push((await changes()).map(({ objid, ...rest }) => ({ ...rest, objid: typeof objid })));
    }
    assert.equal(seen[0]?.length, 4);
    assert.deepEqual(seen[1], seen[0]);
  });

  test("columns, types, defaults, NOT NULL and constraints are changes; data, statistics and triggers are not", async (t) => {
    const { database, build, told } = await scene(
      t,
      true,
      "create table orders (id int primary key, a varchar(5))",
    );
    await build();
    for (const statement of [
      "alter table orders alter column a type varchar(9)",
      "alter table orders alter column a set default 'x'",
      "alter table orders alter column a set not null",
      "alter table orders add constraint short check (length(a) < 9)",
      "alter table orders rename column a to b",
    ]) {
      await database.query(statement);
      await build();
      assert.deepEqual(await told(), ["S public.orders ALTER TABLE table"], statement);
    }
    for (const statement of [
      "insert into orders values (1, 'a'); delete from orders",
      "analyze orders",
      "create trigger t after insert on orders for each statement execute function suppress_redundant_updates_trigger()",
      "create temp table scratch (id int)",
    ]) {
      await database.query(statement);
      await build();
      assert.deepEqual(
        (await told()).filter((words) => words.startsWith("S")),
        [],
        statement,
      );
    }
  });

  test("a table looks the same whatever the version of the server, so that its upgrade is no change", async (t) => {
    const { database, build } = await scene(
      t,
      true,
      "create table orders (id int primary key, a numeric(5, 2) not null default 1, b int unique check (b > 0), c int generated always as identity)",
    );
    await build();
    const { rows } = await database.query("select shape from pgevents.known_table");
    assert.deepEqual(rows[0]?.shape, {
      columns: [
        [1, "id", "integer", true, false, "", ""],
        [2, "a", "numeric(5,2)", true, true, "", ""],
        [3, "b", "integer", false, false, "", ""],
        [4, "c", "integer", true, false, "a", ""],
      ],
      constraints: [
        ["orders_b_check", "c", [3]],
        ["orders_b_key", "u", [3]],
        ["orders_pkey", "p", [1]],
      ],
    });
  });

  test("event triggers that are asked for and not allowed are a failure of their own", async (t) => {
    const { build } = await scene(t, true, "create table orders (id int primary key)");
    const report = await build({ schemaChanges: "EventTrigger" });
    assert.deepEqual([report.tables, report.failures.map(({ code }) => code)], [1, ["PermissionDenied"]]);
    assert.match(
      `${report.failures[0]?.message} ${report.failures[0]?.remedy}`,
      /only a superuser can make them\. .* or set spec\.capture\.schemaChanges to Auto or Poll/,
    );
  });
});

test("a change of the mode leaves nothing behind, and tells of nothing that was before", async (t) => {
  const { database, build, told } = await scene(t, false, "create table orders (id int primary key)");
  const modes = ["Poll", "EventTrigger", "Off", "Poll", "Off", "Auto"] as const;
  for (const [index, schemaChanges] of modes.entries()) {
    await build({ schemaChanges });
    assert.deepEqual(await told(), [], schemaChanges);
    await database.query(`create table t${index} (id int primary key)`);
    const { rows } = await database.query("select count(*)::int as triggers from pg_event_trigger");
    const byTrigger = schemaChanges === "EventTrigger" || schemaChanges === "Auto";
    assert.deepEqual(rows, [{ triggers: byTrigger ? 3 : 0 }]);
    await build({ schemaChanges });
    assert.equal(
      (await told()).length,
      { Poll: 1, EventTrigger: 2, Auto: 2, Off: 0 }[schemaChanges],
      schemaChanges,
    );
  }
});
