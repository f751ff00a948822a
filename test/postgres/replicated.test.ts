/** `replicated`: what logical replication, and sessions in the role replica, write. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { type CaptureScene, captured } from "../support/capture-scene.ts";
import { tableSpec } from "../support/capture-spec.ts";
import { connect, ownServer } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const TABLES = `create table orders (id integer primary key, n integer);
  create table parted (id integer primary key, n integer) partition by range (id);
  create table parted_1 partition of parted for values from (0) to (10)`;
const REPLICA = "set session_replication_role = replica;";
const WRITES = `insert into orders values (1, 1); update orders set n = 2; delete from orders; truncate orders;
  insert into parted values (1, 1); update parted_1 set n = 2; delete from parted; insert into parted_1 values (2, 2); truncate parted_1`;
const LINES = [
  "Insert orders [1]",
  "Update orders [1]",
  "Delete orders [1]",
  "Truncate orders",
  "Insert parted [1]",
  "Update parted [1]",
  "Delete parted [1]",
  "Insert parted [2]",
  "Truncate parted_1",
];

const scene = (t: Parameters<typeof captured>[0], spec: Partial<CaptureSpec> = {}) =>
  captured(t, TABLES, { owner: false, ...spec });

describe("a session in the role replica", () => {
  test("G7 writes unseen by default, and is captured like any other with `replicated`; on and off again", async (t) => {
    const { query, lines, build } = await scene(t);
    await query(`${REPLICA} ${WRITES}`);
    assert.deepEqual(await lines(), []);
    for (const level of ["replica", "origin"]) {
      const { failures } = await build({ replicated: true });
      assert.deepEqual(failures, []);
      assert.equal((await build({ replicated: true })).changed, false);
      await query(`set session_replication_role = ${level}; ${WRITES}`);
      assert.deepEqual(await lines(), LINES, level);
    }
    await build({});
    assert.equal((await build({})).changed, false);
    await query(`${REPLICA} ${WRITES}`);
    assert.deepEqual(await lines(), []);
    await query(`set session_replication_role = origin; ${WRITES}`);
    assert.deepEqual(await lines(), LINES);
  });

  test("tables and partitions that come are captured in the same way", async (t) => {
    const { query, lines, build } = await scene(t, { replicated: true });
    await query(`create table later (id integer primary key);
      create table parted_2 partition of parted for values from (10) to (20);
      create table parted_3 (id integer primary key, n integer);
      alter table parted attach partition parted_3 for values from (20) to (30)`);
    const { actions } = await build();
    assert.deepEqual(actions, [], "the event triggers have done all");
    await query(
      `${REPLICA} insert into later values (1); insert into parted values (11, 1), (21, 1); insert into parted_3 values (22, 1); truncate parted_2`,
    );
    assert.deepEqual(await lines(), [
      "Insert later [1]",
      "Insert parted [11]",
      "Insert parted [21]",
      "Insert parted [22]",
      "Truncate parted_2",
    ]);
    const { rows } = await query(
      "select new::json ->> 'command_tag' as tag from pgevents.outbox where operation = 'S' and table_name = 'later'",
    );
    assert.deepEqual(
      rows.filter(({ tag }) => tag === "ALTER TABLE"),
      [],
      "nobody altered it",
    );
  });

  test("with a condition and columns; without event triggers", async (t) => {
    const table = tableSpec({ name: "orders", when: { insert: "new.n > 1" }, columns: { mask: ["n"] } });
    const { lines, superuserUrl } = await captured(t, TABLES, { replicated: true, tables: [table] });
    const superuser = await connect(t, superuserUrl);
    await superuser.query(`${REPLICA} insert into orders values (1, 1), (2, 2)`);
    assert.deepEqual(await lines(), ["Insert orders [2]"]);
  });

  test("a trigger that somebody set to another mode is put right, on a partition as well", async (t) => {
    for (const replicated of [true, false]) {
      const { query, lines, build } = await scene(t, { replicated });
      const { rows } = await query<{ name: string; on: string }>(
        `select tgname as name, tgrelid::regclass::text as on from pg_trigger
        where tgrelid in ('orders'::regclass, 'parted_1'::regclass) and tgname like '!pgevents%insert%'`,
      );
      assert.equal(rows.length, 2);
      for (const mode of ["enable", "enable always", "enable replica", "disable"]) {
        for (const { name, on } of rows) await query(`alter table ${on} ${mode} trigger "${name}"`);
        assert.deepEqual((await build()).failures, []);
        assert.equal((await build()).changed, false, mode);
        await query(`${replicated ? REPLICA : ""} ${WRITES}; set session_replication_role = origin`);
        assert.deepEqual(await lines(), LINES, `${replicated} ${mode}`);
      }
    }
  });
});

describe("a subscription of logical replication", () => {
  test("G1 its first copy, rows and TRUNCATE, in the order of the publisher; and the finding while it is off", async (t) => {
    const publisher = await ownServer(t, { wal_level: "logical" });
    const source = await connect(t, publisher.url);
    await source.query(`${TABLES}; insert into orders select i, i from generate_series(1, 3) as i; insert into parted values (1, 1);
      create publication everything for all tables`);
    const target = await scene(t, { replicated: true });
    const { query, lines, build } = target;
    await query(`create subscription ${target.name} connection '${publisher.url}' publication everything`);
    try {
      await arrived(target, "orders", 3);
      await arrived(target, "parted", 1);
      assert.deepEqual((await lines()).sort(), [
        "Insert orders [1]",
        "Insert orders [2]",
        "Insert orders [3]",
        "Insert parted [1]",
      ]);
      await ready(target);
      await source.query(`begin; update orders set n = 7 where id <= 2; delete from orders where id = 1; update orders set id = 5 where id = 2;
        insert into parted values (2, 2); update parted set n = 3; commit`);
      await source.query("truncate orders, parted; insert into orders values (9, 9)");
      await eventually(async () => (await query("select from orders where id = 9")).rowCount === 1, {
        what: "the last row",
      });
      const told = await lines();
      assert.deepEqual(told.slice(0, 7), [
        "Update orders [1]",
        "Update orders [2]",
        "Delete orders [1]",
        "Update orders [2]>[5]",
        "Insert parted [2]",
        ...told.slice(5, 7).filter((line) => /^Update parted \[[12]\]$/.test(line)),
      ]);
      assert.deepEqual(
        told.slice(7).sort(),
        ["Insert orders [9]", "Truncate orders", "Truncate parted_1"].sort(),
      );
      assert.equal(told.at(-1), "Insert orders [9]");

      const { findings } = await build({});
      assert.ok(
        findings.some(({ code, message }) => code === "ReplicatedTable" && message.includes("public.orders")),
      );
      await source.query("insert into orders values (10, 10)");
      await eventually(async () => (await query("select from orders where id = 10")).rowCount === 1, {
        what: "the row",
      });
      assert.deepEqual(await lines(), []);
      assert.ok(!(await build({ replicated: true })).findings.some(({ code }) => code === "ReplicatedTable"));
    } finally {
      await query(`drop subscription ${target.name}`);
    }
  });
});

function arrived({ query }: CaptureScene, table: string, rows: number): Promise<unknown> {
  return eventually(async () => (await query(`select from ${table}`)).rowCount === rows, {
    what: `rows of ${table}`,
  });
}

/** The first copy of every table is over. */
function ready({ query }: CaptureScene): Promise<unknown> {
  const open = "select from pg_subscription_rel where srsubstate <> 'r'";
  return eventually(async () => (await query(open)).rowCount === 0, { what: "the end of the first copy" });
}
