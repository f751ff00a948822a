/** Whether a build has to be because tables have changed, or because others have changed capture itself. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type CaptureScene, captured } from "../support/capture-scene.ts";
import { tableSpec } from "../support/capture-spec.ts";

const TABLES = `
  create table orders (id integer primary key, note text);
  create table sales (region integer, id integer, primary key (region, id)) partition by list (region);
  create table sales_1 partition of sales for values in (1);
  create function touch() returns trigger language plpgsql as $$ begin return null; end $$`;

const ALL_OF_ORDERS = ["insert", "update", "delete", "truncate"]
  .map((kind) => `drop trigger "!pgevents_${kind}" on orders`)
  .join("; ");

/** SQL → what is told to have been changed by others. */
const BY_OTHERS: readonly (readonly [string, readonly string[]])[] = [
  ['drop trigger "!pgevents_insert" on orders', ["public.orders"]],
  ['drop trigger "!pgevents_truncate" on orders', ["public.orders"]],
  [ALL_OF_ORDERS, ["public.orders"]],
  ['alter trigger "!pgevents_insert" on orders rename to mine', ["public.orders"]],
  [
    "create trigger twice after insert on orders for each row execute function pgevents.capture_row('', 'public', 'orders', '', '')",
    ["public.orders"],
  ],
  ['drop trigger "!pgevents_row_update" on sales', ["public.sales"]],
  ["alter function pgevents.capture_insert() security invoker", ["functions"]],
  ["delete from pgevents.callback", ["callbacks"]],
  ["drop schema pgevents cascade", ["schema"]],
];

/** What event triggers put right in the same transaction, and what a superuser does not mind. */
const WITHOUT_EVENT_TRIGGERS: readonly (readonly [string, readonly string[]])[] = [
  ['alter table orders disable trigger "!pgevents_delete"', ["public.orders"]],
  ["alter table orders disable trigger all", ["public.orders"]],
  ['alter table orders enable always trigger "!pgevents_insert"', ["public.orders"]],
  ['alter table sales_1 disable trigger "!pgevents_row_insert"', ["public.sales"]],
  ["revoke all on pgevents.outbox_0 from current_user", ["rights"]],
  [
    `alter table orders add column more text; ${ALL_OF_ORDERS}; drop function pgevents.notify_worker() cascade`,
    ["functions"],
  ],
];

const CHANGES_OF_TABLES = [
  "alter table orders add column total numeric",
  "alter table orders add column spent interval", // a type whose text settings change
  "alter table orders drop constraint orders_pkey",
  "alter table orders rename to clients",
  "alter table clients rename to orders",
  "create table later (id integer primary key)",
  "drop table later; create table later (id integer primary key)",
  "create trigger touched after insert on orders for each row execute function touch()",
  "drop trigger touched on orders",
  "create trigger touched after insert on sales for each row execute function touch()",
  "create table sales_2 partition of sales for values in (2)",
  "alter table sales detach partition sales_2",
  `${["insert", "update", "delete"].map((kind) => `drop trigger if exists "!pgevents_${kind}" on sales_2`).join("; ")}; alter table sales attach partition sales_2 for values in (2)`,
  "drop trigger touched on sales",
  "create table child () inherits (orders)",
  "create schema other; alter table later set schema other",
];

async function told(
  scene: CaptureScene,
  sql: string,
): Promise<{ changed: boolean; drift: readonly string[] }> {
  await scene.query(sql);
  const { changed, drift } = await scene.build();
  assert.equal((await scene.build()).changed, false, sql);
  return { changed, drift };
}

for (const owner of [true, false])
  describe(
    owner ? "changes of tables are looked for" : "changes of tables are told by event triggers",
    () => {
      test("what others do to capture is drift, and told with its place", async (t) => {
        const scene = await captured(t, TABLES, { owner });
        const cases = owner ? [...WITHOUT_EVENT_TRIGGERS, ...BY_OTHERS] : BY_OTHERS;
        for (const [sql, drift] of cases)
          assert.deepEqual(await told(scene, sql), { changed: true, drift }, sql);
      });

      test("what happens to tables is none", async (t) => {
        const scene = await captured(t, TABLES, { owner });
        for (const sql of CHANGES_OF_TABLES) {
          const { changed, drift } = await told(scene, sql);
          assert.deepEqual(drift, [], sql);
          if (owner) assert.equal(changed, true, sql);
        }
      });

      test("nor is a partition that was a table which is not captured", async (t) => {
        const scene = await captured(t, `${TABLES}; create table spare (like sales including all)`, {
          tables: [tableSpec({ name: "*", exclude: ["spare"] })],
          owner,
        });
        await scene.query("alter table sales attach partition spare for values in (3)");
        const { changed, drift } = await scene.build();
        assert.deepEqual({ changed, drift }, { changed: true, drift: [] });
      });
    },
  );

test("event triggers that others drop are drift", async (t) => {
  const scene = await captured(t, TABLES, { owner: false });
  const { drift } = await told(scene, "drop event trigger pgevents_sql_drop");
  assert.deepEqual(drift, ["event triggers"]);
});

test("with schemaChanges Off a table without any trigger may be a new one, one with some is not", async (t) => {
  const scene = await captured(t, TABLES, { schemaChanges: "Off" });
  assert.deepEqual((await told(scene, ALL_OF_ORDERS)).drift, []);
  assert.deepEqual((await told(scene, 'drop trigger "!pgevents_insert" on orders')).drift, ["public.orders"]);
});
