/** Whoever writes, and however the session is set up: what is committed is captured, and nothing else. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type pg from "pg";
import { captureNames } from "../../src/core/capture/names.ts";
import { type CaptureScene, captured } from "../support/capture-scene.ts";
import { connect, type TestEnd, twoPhaseServer } from "../support/postgres.ts";

const ORDERS = "create table orders (id integer primary key, n integer);";

/** A superuser's session that acts as a role of the test's own; `grants` is run first, `$role` stands for the role. */
async function writer(t: TestEnd, { name, superuserUrl }: CaptureScene, grants: string): Promise<pg.Client> {
  const role = `writer_${name}`;
  const client = await connect(t, superuserUrl);
  t.after(async () => {
    const server = await connect(t, superuserUrl.replace(/[^/]+$/, "postgres"));
    await server.query(`drop role ${role}`);
    await server.end();
  });
  await client.query(`create role ${role}; ${grants.replaceAll("$role", role)}`);
  return client;
}

describe("transactions", () => {
  test("G6 savepoints, within one another, released and rolled back to again and again", async (t) => {
    const { query, lines } = await captured(t, ORDERS);
    await query(`begin;
      insert into orders values (1, 0);
      savepoint a; insert into orders values (2, 0);
      savepoint b; insert into orders values (3, 0); update orders set n = 1 where id = 1; rollback to b;
      insert into orders values (4, 0); rollback to b; insert into orders values (5, 0); release b;
      rollback to a; insert into orders values (6, 0); release a;
      savepoint c; savepoint d; delete from orders where id = 1; release d; rollback to c;
      truncate orders; rollback to c; commit`);
    assert.deepEqual(await lines(), ["Insert orders [1]", "Insert orders [6]"]);
  });

  test("G1 G6 ten thousand subtransactions, half of them rolled back, while others write and the reader reads", async (t) => {
    const { query, lines, url } = await captured(t, ORDERS);
    await query(`begin;
      do $$ begin
        for i in 1..10000 loop
          begin
            insert into orders values (i, 0);
            if i % 2 = 0 then raise exception sqlstate 'P0001'; end if;
          exception when sqlstate 'P0001' then null;
          end;
        end loop;
      end $$`);
    const other = await connect(t, url);
    await other.query("insert into orders values (-1, 0)");
    assert.deepEqual(await lines(), ["Insert orders [-1]"]);
    await query("savepoint a; insert into orders values (0, 0); rollback to a");
    await other.query("insert into orders values (-2, 0)");
    assert.deepEqual(await lines(), ["Insert orders [-2]"]);
    await query("commit");
    assert.deepEqual(
      await lines(),
      Array.from({ length: 5000 }, (_, index) => `Insert orders [${2 * index + 1}]`),
    );
  });

  test("G6 two-phase commit: read after COMMIT PREPARED, never after ROLLBACK PREPARED", async (t) => {
    const { query, lines, name } = await captured(t, ORDERS, { server: await twoPhaseServer(t) });
    for (const [id, end] of [
      [1, "rollback"],
      [2, "commit"],
    ] as const) {
      await query(
        `begin; insert into orders values (${id}, 0); savepoint a; insert into orders values (99, 0); rollback to a`,
      );
      await query(`prepare transaction '${name}'`);
      await query(`insert into orders values (${id + 10}, 0)`);
      assert.deepEqual(await lines(), [`Insert orders [${id + 10}]`]);
      await query(`${end} prepared '${name}'`);
      assert.deepEqual(await lines(), end === "commit" ? ["Insert orders [2]"] : []);
    }
  });

  test("two-phase commit while the worker sleeps: no NOTIFY is sent, which could not be prepared", async (t) => {
    const { query, lines, name, url } = await captured(t, ORDERS, { server: await twoPhaseServer(t) });
    const worker = await connect(t, url);
    await worker.query(`select pg_advisory_lock(${captureNames("pgevents").wakeLock.join(", ")})`);
    await query("begin; insert into orders values (1, 0)");
    await query(`prepare transaction '${name}'`);
    await query(`commit prepared '${name}'`);
    assert.deepEqual(await lines(), ["Insert orders [1]"]);
  });

  test("transactions that read only, or wait under serializable and fail, leave nothing", async (t) => {
    const { query, lines, url } = await captured(t, `${ORDERS} insert into orders values (1, 0), (2, 0)`);
    const other = await connect(t, url);
    for (const client of [query, (sql: string) => other.query(sql)])
      await client("begin isolation level serializable; select sum(n) from orders");
    await query("update orders set n = 1 where id = 1");
    await other.query("update orders set n = 1 where id = 2");
    await query("commit");
    await assert.rejects(other.query("commit"), { code: "40001" });
    await query("begin read only; select from orders; commit");
    await assert.rejects(query("begin read only; delete from orders"), { code: "25006" });
    await query("rollback");
    assert.deepEqual(await lines(), ["Update orders [1]"]);
  });

  test("session_replication_role = replica: such sessions are not captured", async (t) => {
    const { query, lines } = await captured(t, ORDERS, { owner: false });
    await query("set session_replication_role = replica; insert into orders values (1, 0)");
    await query("set session_replication_role = origin; insert into orders values (2, 0)");
    assert.deepEqual(await lines(), ["Insert orders [2]"]);
  });
});

describe("writers", () => {
  test("row-level security, forced too: what a writer may change is captured, whatever anybody may see", async (t) => {
    const scene = await captured(t, "create table orders (id integer primary key, tenant text)");
    const client = await writer(t, scene, "grant select, insert, update, delete on orders to $role");
    await scene.query(`insert into orders values (1, 'me'), (2, 'you');
      alter table orders enable row level security; alter table orders force row level security;
      create policy of_tenant on orders to writer_${scene.name} using (tenant = 'me') with check (id < 100)`);
    await scene.told();
    await client.query(`set role writer_${scene.name}`);
    await client.query(
      "insert into orders values (3, 'you'); update orders set id = 4; delete from orders where id = 2",
    );
    await assert.rejects(client.query("update orders set id = 100"), { code: "42501" });
    await client.query("delete from orders");
    assert.deepEqual((await scene.query("select from orders")).rowCount, 0, "the owner sees no row");
    assert.deepEqual(await scene.lines(), [
      "Insert orders [3]",
      "Update orders [1]>[4]",
      "Delete orders [4]",
    ]);
  });

  test("a role that was taken on, and a function with its owner's rights", async (t) => {
    const scene = await captured(
      t,
      `${ORDERS} create function add_order(id integer) returns void language sql security definer as $$ insert into orders values (id, 0) $$`,
    );
    const client = await writer(t, scene, "grant insert on orders to $role");
    await client.query(
      `set role writer_${scene.name}; insert into orders values (1, 0); select add_order(2); reset role`,
    );
    await client.query(`set session authorization writer_${scene.name}; insert into orders values (3, 0)`);
    const events = await scene.told();
    const users = events.map(({ context }) => JSON.parse(context).session_user);
    assert.deepEqual(users, ["postgres", "postgres", `writer_${scene.name}`]);
  });

  test("operators, functions, types and temporary tables that stand before ours are not used", async (t) => {
    const scene = await captured(t, ORDERS);
    const client = await writer(
      t,
      scene,
      `create schema evil authorization $role; grant usage on schema evil to public; grant select, insert, update, delete on orders to $role;
      grant temporary on database ${scene.name} to $role`,
    );
    await client.query(`set role writer_${scene.name}`);
    for (const [name, parameters, type, operator] of [
      ["row_to_json", "record", "json"],
      ["to_json", "anyelement", "json"],
      ["current_setting", "text", "text"],
      ["concat2", "text, text", "text", "||"],
      ["field", "json, text", "json", "->"],
      ["same", "text, text", "boolean", "="],
    ]) {
      const [left, right] = parameters?.split(", ") ?? [];
      await client.query(`create function evil.${name}(${parameters}) returns ${type} language plpgsql as $$ begin
        raise exception 'run as %', current_user;
      end $$`);
      if (operator !== undefined)
        await client.query(
          `create operator evil.${operator} (leftarg = ${left}, rightarg = ${right}, function = evil.${name})`,
        );
    }
    await client.query(`
      create domain evil.text as pg_catalog.text check (false); create domain evil.json as pg_catalog.json check (false);
      create temporary table pgevents_new (id integer, n integer); create temporary table pgevents_old (id integer, n integer);
      create temporary table outbox (id integer); create temporary table outbox_segment (last_value integer);
      insert into pgevents_new values (7, 7); insert into pgevents_old values (7, 7);
      set search_path = evil, pg_temp, public, pg_catalog`);
    await client.query(
      "insert into orders values (1, 0); update orders set n = 1 where id operator(pg_catalog.=) 1; delete from orders",
    );
    assert.deepEqual(await scene.lines(), ["Insert orders [1]", "Update orders [1]", "Delete orders [1]"]);
  });

  test("sessions with settings of every kind", async (t) => {
    const { query, told } = await captured(
      t,
      "create table facts (id integer primary key, at timestamp, taken timestamptz, day date, note text)",
      { owner: false },
    );
    for (const setting of [
      "standard_conforming_strings = off",
      "default_transaction_isolation = 'serializable'",
      "enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off",
      "plan_cache_mode = force_generic_plan",
      "constraint_exclusion = on; set from_collapse_limit = 1; set join_collapse_limit = 1; set work_mem = '64kB'",
      "client_encoding = 'LATIN1'",
      "datestyle = 'German'",
      "default_tablespace = ''; set default_toast_compression = 'pglz'; set row_security = off",
      "check_function_bodies = off; set plpgsql.variable_conflict = 'use_column'; set plpgsql.extra_errors = 'all'",
    ]) {
      await query(`reset all; set ${setting}; reset timezone`);
      await query(
        "insert into facts values (1, timestamp '2026-01-02 03:04', null, date '2026-02-01', E'\\u00e9'); update facts set id = 2; delete from facts",
      );
      const [inserted, updated, deleted] = await told();
      assert.deepEqual(
        JSON.parse(inserted?.new ?? ""),
        { id: 1, at: "2026-01-02T03:04:00", taken: null, day: "2026-02-01", note: "é" },
        setting,
      );
      assert.deepEqual([updated?.oldKey, updated?.key, deleted?.key], ["[1]", "[2]", "[2]"], setting);
    }
  });
});
