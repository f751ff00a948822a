import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { scrape } from "../support/operator.ts";
import { ORDERS_CAPTURED, operatorSuite, type Scene } from "../support/operator-suite.ts";
import { connect } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const suite = operatorSuite();

test("F21 a table that does not exist is named, and captured when it does", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply({
    capture: {
      tables: [
        { schema: "public", name: "orders" },
        { schema: "public", name: "later" },
      ],
    },
  });
  const { message } = await scene.waitFor("Built", "False", "TableNotFound");
  assert.match(message, /public\.later/);
  assert.deepEqual((await scene.get())?.status?.build?.failedTables, ["public.later"]);
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED, "the other table is captured");
  await scene.database.query("create table public.later (id integer primary key)");
  await scene.waitFor("Built", "True");
  assert.equal(Object.keys(await scene.triggers()).length, 2);
});

test("F25 capture that was dropped by hand is built again, at once when asked for", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  await scene.database.query("drop schema pgevents cascade");
  assert.deepEqual(await scene.triggers(), {});
  await scene.askToLook();
  await eventually(async () => assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED) ?? true, {
    what: "the rebuild",
  });
  await eventually(async () => (await builds(scene)).drift === 1, { what: "drift that is counted" });
});

test("F25 triggers that others drop or disable are made again and counted as drift, tables that change are not", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  const count = { spec: 1, drift: 0, schema: 0 };
  const change = async (sql: string, trigger: "drift" | "schema") => {
    await scene.database.query(sql);
    await scene.askToLook();
    count[trigger] += 1;
    await eventually(async () => assert.deepEqual(await builds(scene), count) ?? true, { what: sql });
  };
  await change('drop trigger "!pgevents_insert" on public.orders', "drift");
  await change("alter table public.orders add column note text", "schema");
  await change("alter table public.orders disable trigger all", "drift");
  await change("create table public.later (id integer primary key)", "schema");
  assert.deepEqual(await scene.triggers(), { later: 4, ...ORDERS_CAPTURED });
  await scene.waitForEvent(/^Normal SchemaChanged: .* Others had changed it: public\.orders\.$/);
  const { build } = (await scene.get())?.status ?? {};
  const { rows } = await scene.database.query<{ version: number }>(
    "select max(version) as version from pgevents.migration",
  );
  assert.deepEqual([build?.captureMode, build?.schemaVersion], ["Trigger", rows[0]?.version]);
});

test("F25 tables of capture that are gone cannot be made again: that is told, and counted", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  await scene.database.query("drop table pgevents.dead_letter");
  await scene.askToLook();
  const { message } = await scene.waitFor("Built", "False", "BuildFailed");
  assert.match(message, /^PGE_CAPTURE_DAMAGED: /);
  await scene.waitForEvent(/^Warning BuildFailed: /);
  const failed = `pgevents_builds_total{source_namespace="${scene.namespace}",source="shop",trigger="drift",result="failed"}`;
  assert.ok(((await scrape(scene.operator.metricsUrl)).get(failed) ?? 0) > 0);
});

/** Builds of the source that changed something, by what called for them. */
async function builds({ operator, namespace }: Scene): Promise<Record<"spec" | "drift" | "schema", number>> {
  const samples = await scrape(operator.metricsUrl);
  const of = (trigger: string) =>
    samples.get(
      `pgevents_builds_total{source_namespace="${namespace}",source="shop",trigger="${trigger}",result="changed"}`,
    ) ?? 0;
  return { spec: of("spec"), drift: of("drift"), schema: of("schema") };
}

test("F22 columns, names, partitions and tables that a user changes are captured as they are then", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.database.query("create table public.customers (id integer primary key)");
  await scene.apply();
  await scene.waitFor("Built", "True");
  assert.deepEqual(await scene.triggers(), { customers: 4, ...ORDERS_CAPTURED });
  const outbox = async () => {
    const { rows } = await scene.database.query<{
      name: string;
      key: string | null;
      new: Record<string, unknown>;
    }>(
      `select table_name as name, key, new::json from pgevents.change_events() where operation = 'I' order by id`,
    );
    return rows;
  };
  const change = async (sql: string, expected: Record<string, number>) => {
    await scene.database.query(sql);
    await scene.askToLook();
    await eventually(async () => assert.deepEqual(await scene.triggers(), expected) ?? true, { what: sql });
  };
  await scene.database.query(
    "alter table public.orders add column note text; insert into public.orders values (1, 1, 'x')",
  );
  assert.deepEqual((await outbox()).at(-1)?.new, { id: 1, total: 1, note: "x" });
  await change("alter table public.orders drop column note; alter table public.customers rename to clients", {
    clients: 4,
    ...ORDERS_CAPTURED,
  });
  await scene.database.query("insert into public.clients values (7)");
  assert.deepEqual((await outbox()).at(-1), { name: "clients", key: "[7]", new: { id: 7 } });
  await change("drop table public.orders; create table public.orders (number integer primary key)", {
    clients: 4,
    ...ORDERS_CAPTURED,
  });
  await scene.database.query("insert into public.orders values (9)");
  assert.deepEqual((await outbox()).at(-1), { name: "orders", key: "[9]", new: { number: 9 } });
  await change(
    "create table public.sales (region integer, id integer, primary key (region, id)) partition by list (region); create table public.sales_1 partition of public.sales for values in (1)",
    { clients: 4, ...ORDERS_CAPTURED, sales: 4, sales_1: 4 },
  );
  await scene.database.query("insert into public.sales values (1, 5)");
  assert.equal((await outbox()).filter(({ name }) => name === "sales").length, 1);
  await scene.waitFor("Built", "True");
});

test("F23 a table that a long transaction holds is told; writers are let through, and then it is captured", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const other = await locked(t, scene);
  await scene.connect();
  await scene.apply({ database: { ...DATABASE, lockTimeoutSeconds: 1 } });
  const { message } = await scene.waitFor("Built", "False", "LockTimeout");
  assert.match(message, /public\.orders/);
  // The build that comes again and again waits in the queue of the lock for a second at most.
  await scene.database.query("set lock_timeout = '3s'; insert into public.orders values (1, 1)");
  await other.query("commit");
  await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
});

test("F24 a build whose connection is cut leaves nothing half done, and is made again", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const other = await locked(t, scene);
  await scene.connect();
  await scene.apply({ database: { ...DATABASE, lockTimeoutSeconds: 60 } });
  await waitingBuild(scene);
  await other.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg-events/build' and datname = current_database()",
  );
  await scene.waitFor("Ready", "False", "ConnectionFailed");
  assert.deepEqual(await scene.triggers(), {});
  await other.query("commit");
  await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
});

test("F24 a statement that takes too long ends the attempt, not the operator", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const other = await locked(t, scene);
  await scene.connect();
  await scene.apply({ database: { ...DATABASE, lockTimeoutSeconds: 60, statementTimeoutSeconds: 1 } });
  await scene.waitFor("Built", "False", "LockTimeout");
  await other.query("commit");
  await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
});

test("F32 a source that is deleted while it is built ends without a trace", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const other = await locked(t, scene);
  await scene.connect();
  await scene.apply({ database: { ...DATABASE, lockTimeoutSeconds: 60 } });
  await waitingBuild(scene);
  await scene.remove();
  await other.query("commit");
  await scene.waitUntilGone();
  assert.deepEqual(await scene.triggers(), {});
  const { rows } = await scene.database.query("select 1 from pg_namespace where nspname = 'pgevents'");
  assert.deepEqual(rows, []);
});

const DATABASE = { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } };

/** A superuser's session whose open transaction holds public.orders against any trigger, but not against writers. */
async function locked(t: TestContext, scene: Scene) {
  const other = await connect(t, scene.database.superuserUrl);
  await other.query("begin; lock table public.orders in row exclusive mode");
  return other;
}

/** Waits until a build waits for that lock. */
async function waitingBuild({ database }: Scene): Promise<void> {
  const waiting =
    "select 1 from pg_stat_activity where application_name = 'pg-events/build' and datname = current_database() and wait_event_type = 'Lock'";
  await eventually(async () => ((await database.query(waiting)).rowCount ?? 0) > 0, {
    what: "a build that waits",
  });
}
