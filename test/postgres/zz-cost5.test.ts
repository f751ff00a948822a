import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { captured } from "/work/main/test/support/capture-scene.ts";
import { tableSpec } from "/work/main/test/support/capture-spec.ts";
const median = (x: number[]) => x.toSorted((a, b) => a - b)[Math.floor(x.length / 2)] as number;
test("cost", { timeout: 300000 }, async (t) => {
  const result: Record<string, number[]> = {};
  const tables = [tableSpec({ name: "orders" }), tableSpec({ name: "by_row", payload: "Changes" })];
  const scene = await captured(t, `create table orders (id bigserial primary key, n integer, note text); create table by_row (id bigserial primary key, n integer, note text); create table plain (id bigserial primary key, n integer, note text)`, { tables });
  const push = (k: string, v: number) => (result[k] ??= []).push(v);
  for (let round = 0; round < 5; round += 1)
    for (const onError of ["Abort", "Skip"] as const) {
      await scene.build({ tables, onError });
      await scene.query("truncate pgevents.outbox, orders, by_row, plain");
      for (const table of ["plain", "orders", "by_row"]) {
        const time = async (what: string, sql: string) => { const from = performance.now(); await scene.query(sql); push(`${onError} ${table} ${what}`, performance.now() - from); };
        const from = performance.now();
        for (let i = 0; i < 1000; i += 1) await scene.query(`insert into ${table} (n, note) values (1, 'abcdef')`);
        push(`${onError} ${table} 1000 single inserts`, performance.now() - from);
        await time("10000 in one transaction", `do $$ begin for i in 1..10000 loop insert into ${table} (n, note) values (i, 'abcdef'); end loop; end $$`);
        await time("50000 rows", `insert into ${table} (n, note) select i, 'abcdef' from generate_series(1, 50000) as i`);
        await time("update 50000 rows", `update ${table} set n = n + 1 where n > 10000`);
      }
    }
  for (const [k, v] of Object.entries(result)) console.log(k.padEnd(50), median(v).toFixed(0), "ms");
});
