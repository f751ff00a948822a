/**
 * The Python package pg_events 0.1.6 and this program side by side on one database: the same payloads for
 * the same statements, field by field; and what only this one can do.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { useAncestor } from "../support/ancestor.ts";
import { CALLBACKS, type ClassicProject, classicProject } from "../support/classic-project.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { type CliProcess, eventually, startProcess } from "../support/processes.ts";

const PYTHON_FILES = {
  "python_settings.py": `
import os
PG_EVENTS_DATABASE_URL = os.environ["PG_EVENTS_DATABASE_URL"]
PG_EVENTS_DATA_UPDATE_CALLBACK = "python_callbacks.on_data"
PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK = "python_callbacks.on_schema"
`,
  "python_callbacks.py": `
def append(name, payload):
    with open(name, "a") as file:
        file.write(payload.replace("\\n", "\\\\n") + "\\n")
def on_data(payload): append("python.txt", payload)
def on_schema(payload): append("python.txt", payload)
`,
};

const FILES = {
  ...PYTHON_FILES,
  "settings.yaml": `
PG_EVENTS_DATA_UPDATE_CALLBACK: callbacks.onData
PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK: callbacks.onData
`,
  "callbacks.mjs": CALLBACKS,
};

type Payload = Record<string, unknown>;

interface Scene {
  readonly database: TestDatabase;
  readonly project: ClassicProject;
  readonly env: { readonly PG_EVENTS_DATABASE_URL: string };
  /** Runs \`pg_events\` of Python. */
  python(...args: string[]): CliProcess;
  /** Runs \`pg-events\`. */
  ours(...args: string[]): Promise<void>;
  startPythonWorker(): Promise<CliProcess>;
  startOurWorker(): Promise<CliProcess>;
  /** What the callbacks got, but for what is about the outbox itself. */
  pythonGot(): Payload[];
  weGot(): Payload[];
}

async function scene(t: TestContext): Promise<Scene | null> {
  const program = await useAncestor(t);
  if (program === null) return null;
  const database = await testDatabase(t);
  const project = classicProject(t, FILES);
  const env = { PG_EVENTS_DATABASE_URL: database.url };
  const python = (...args: string[]) => startProcess(t, program, args, { env, cwd: project.directory });
  const got = (file: string) =>
    project
      .lines(file)
      .map((line) => JSON.parse(line) as Payload)
      .filter((payload) => payload.table_schema !== "pgevents" && payload.schema_name !== "pgevents");
  return {
    database,
    project,
    env,
    python,
    async ours(...args) {
      const { code, stdout, stderr } = await project.run(args, env);
      assert.equal(code, 0, stdout + stderr);
    },
    async startPythonWorker() {
      const worker = python("worker", "--settings", "python_settings");
      await eventually(async () => {
        const { rows } = await database.query(
          "select from pg_stat_activity where query like 'LISTEN pgevents_table_drop%'",
        );
        return rows.length > 0;
      });
      return worker;
    },
    async startOurWorker() {
      const worker = project.startWorker(["--settings", "settings"], env);
      await worker.waitForLine(/"relaying callback"/);
      return worker;
    },
    pythonGot: () => got("python.txt"),
    weGot: () => got("received.txt"),
  };
}

async function bothAtWork(t: TestContext): Promise<Scene | null> {
  const s = await scene(t);
  if (s === null) return null;
  await s.ours("build", "--settings", "settings"); // first: it refuses to work beside the ancestor's event triggers
  const { code } = await s.python("build", "--settings", "python_settings").exited;
  assert.equal(code, 0);
  await s.startPythonWorker();
  await s.startOurWorker();
  return s;
}

/** Each is run by itself; names of tables that need quotes are not among them, as the ancestor fails with them. */
const STATEMENTS = [
  `create table orders (id integer primary key, "Total €" numeric, note text, data jsonb, at timestamptz)`,
  `insert into orders values (1, 12345678901234567890.10, 'a "quoted" \\ back', '{"b": [1, null]}', '2026-01-02 03:04:05.678901+02')`,
  "insert into orders (id) select generate_series(2, 4)",
  "update orders set note = null where id = 1",
  "update orders set id = id + 10",
  "delete from orders where id > 12",
  "insert into orders values (1, 1) on conflict (id) do update set note = 'x'",
  "insert into orders values (1, 2) on conflict (id) do update set note = 'y'",
  "with gone as (delete from orders where id = 1 returning *) insert into orders select 100 + id from gone",
  "create schema shop",
  "create table shop.items (sku text, size integer, primary key (sku, size))",
  "insert into shop.items values ('ü', 1), ('🦉', 2)",
  "update shop.items set size = size + 1",
  `alter table shop.items add column "Left" integer default 5`,
  `alter table shop.items rename column "Left" to "Right"`,
  "delete from shop.items",
  `alter table shop.items drop column "Right"`,
  "alter table orders alter column id set not null, add constraint positive check (id > 0)",
  "alter table orders drop constraint positive",
  "create table kept (id serial primary key, parent integer references orders on delete cascade)",
  "insert into kept (parent) values (11)",
  "delete from orders where id = 11",
  "begin; insert into kept (parent) values (null); rollback",
  "begin; insert into kept (parent) values (null); update kept set parent = null; commit",
  "set application_name = 'other'; create role reader_of_tests; set session authorization reader_of_tests; reset session authorization; drop role reader_of_tests",
  "alter table kept rename to kept_still",
  "drop table kept_still, shop.items",
  "create table sales (region text, id integer, primary key (region, id)) partition by list (region)",
  "create table sales_eu partition of sales for values in ('eu')",
  "create table sales_us partition of sales for values in ('us')",
  "insert into sales values ('eu', 1), ('us', 2)",
  "insert into sales_eu values ('eu', 3)",
  "update sales set id = id + 10 where region = 'eu'",
  "update sales set region = 'us' where id = 11",
  "delete from sales",
  "create table cities (name text primary key)",
  "create table capitals (country text) inherits (cities)",
  "insert into capitals values ('Wien', 'AT')",
  "update cities set name = 'Vienna'",
  "drop table capitals, sales_eu, sales_us",
  "drop table cities, sales",
  "create temporary table scratch (id integer)",
  "drop table scratch",
  "drop table orders",
];

/**
 * Runs a statement while both are at work. The ancestor makes the triggers of every table anew at each
 * command, those of our outbox too, and so may deadlock with who reads that; nothing of the statement is done then.
 */
async function beside(database: TestDatabase, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await database.query(statement);
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== "40P01" || attempt === 20) throw error;
      await database.query("rollback");
    }
  }
}

test("the same statements give the same payloads, field by field", async (t) => {
  const s = await bothAtWork(t);
  if (s === null) return;
  for (const statement of STATEMENTS) {
    await beside(s.database, statement);
    // A table that gets children changes its triggers at the next build; the worker makes one within seconds.
    if (statement.includes("inherits")) await s.ours("build", "--settings", "settings");
  }
  await beside(s.database, "create table the_end (id integer)");
  const ended = (payloads: readonly Payload[]) => payloads.at(-1)?.object_identity === "public.the_end";
  await eventually(() => ended(s.pythonGot()) && ended(s.weGot()), {
    what: "both to tell of the last statement",
  });
  const [theirs, mine] = [s.pythonGot(), s.weGot()];
  assert.ok(theirs.length > 40, `${theirs.length} payloads`);
  for (const [index, payload] of theirs.entries()) assert.deepEqual(mine[index], payload, `payload ${index}`);
  assert.equal(mine.length, theirs.length);
});

test("where the ancestor fails, and this does not", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const { database } = s;
  await database.query(
    "create table orders (id integer primary key, note text); create table _hidden (id integer); create table pg_like (id integer)",
  );
  await s.python("build", "--settings", "python_settings").exited;
  await s.startPythonWorker();
  const large = "insert into orders values (1, repeat('x', 9000))";
  await assert.rejects(database.query(large), /payload string too long/, "over 8 kB fails the write");
  await assert.rejects(
    database.query(`create table "MiXed" (id integer)`),
    /syntax error|does not exist/,
    "a name in quotes fails the command",
  );
  await database.query(
    "insert into _hidden values (1); insert into pg_like values (1); truncate orders; insert into orders values (2)",
  );
  await eventually(() => s.pythonGot().length > 0);
  assert.deepEqual(
    s.pythonGot().map(({ table_name, method }) => `${method} ${table_name}`),
    ["INSERT orders"],
    "names with _ and pg_ and TRUNCATE are passed over",
  );
  await database.query("create view shown as select * from orders").catch(() => undefined);
  const again = s.python("build", "--settings", "python_settings");
  assert.notEqual((await again.exited).code, 0, "a view fails the build");
  await database.query(
    "drop function pgevents_data_update_notify cascade; drop function pgevents_create_db_triggers cascade; drop function pgevents_table_alter_event cascade; drop function pgevents_table_drop_event cascade",
  );

  await s.ours("build", "--settings", "settings");
  await database.query(large); // and nobody listens yet
  await database.query(`create table "MiXed" (id integer); insert into "MiXed" values (1)`);
  await database.query("insert into _hidden values (2); insert into pg_like values (2); truncate orders");
  await s.startOurWorker();
  await s.project.startWorker(["--settings", "settings"], s.env).waitForLine(/"capture found"/);
  const rows = () => s.weGot().filter(({ method }) => method !== undefined);
  await database.query("insert into orders values (3)");
  await eventually(() => rows().some(({ new_data }) => (new_data as Payload | undefined)?.id === 3));
  assert.deepEqual(
    rows().map(({ table_name, method }) => `${method} ${table_name}`),
    ["INSERT orders", "INSERT MiXed", "INSERT _hidden", "INSERT pg_like", "TRUNCATE orders", "INSERT orders"],
    "each once, with two workers",
  );
  assert.equal((rows()[0]?.new_data as Payload | undefined)?.note, "x".repeat(9000));
});

test("moving over under traffic loses nothing: ours is built, theirs is removed", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.database.query("create table orders (id integer primary key)");
  await s.python("build", "--settings", "python_settings").exited;
  const pythonWorker = await s.startPythonWorker();
  const refused = await s.project.run(["build", "--settings", "settings"], s.env);
  const remedy = /Drop them first.*: (drop event trigger .*;)$/m.exec(refused.stderr)?.[1];
  assert.ok(remedy !== undefined, refused.stderr);
  await s.database.query(remedy);
  const writer = await connect(t, s.database.url);
  let [last, moving] = [0, true];
  const writing = (async () => {
    while (moving) {
      last += 1;
      await writer.query("insert into orders values ($1)", [last]);
    }
  })();
  const { stderr } = await s.project.run(["build", "--settings", "settings"], s.env);
  assert.match(stderr, /^warning: AncestorTriggers: .* are still on tables \(1\)/m);
  await s.startOurWorker();
  await s.database.query(
    "drop function pgevents_table_alter_event() cascade; drop function pgevents_table_drop_event() cascade",
  );
  await s.database.query(
    "drop function pgevents_data_update_notify() cascade; drop function pgevents_create_db_triggers() cascade",
  );
  pythonWorker.kill("SIGTERM");
  moving = false;
  await writing;
  const idsOf = (payloads: readonly Payload[]) =>
    payloads.map(({ new_data }) => (new_data as { id: number }).id);
  await eventually(() => idsOf(s.weGot()).includes(last));
  const seen = new Set([...idsOf(s.pythonGot()), ...idsOf(s.weGot())]);
  assert.equal(seen.size, last);
  assert.equal((await s.project.run(["build", "--settings", "settings"], s.env)).stderr, "");
});
