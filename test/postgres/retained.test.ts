/** Reading costs what is new, not what is retained. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { testOutbox } from "../support/outbox.ts";
import { testDatabase } from "../support/postgres.ts";
import { costsOf, retainRows } from "../support/retained.ts";

const SMALL = 50_000;
const LARGE = 1_000_000;
/** 8 KiB blocks: pages of indexes that grow with the logarithm, or by the thousandth. */
const MAY_GROW = 40;

test("no query of a relay or of a round touches more of twenty times as many retained rows", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const { client, catchUp } = await testOutbox(t, database.url);
  const measure = async () => {
    await catchUp("audit");
    await catchUp("orders");
    const { rows } = await client.query<{ seen: string }>("select seen::text from pgevents.callback limit 1");
    await client.query("insert into orders select coalesce(max(id), 0) + 1 from orders");
    return costsOf(client, rows[0]?.seen ?? "", "orders");
  };
  await retainRows(client, 1, SMALL);
  const small = await measure();
  await retainRows(client, SMALL + 2, LARGE - SMALL);
  const large = await measure();
  for (const [name, { blocks }] of Object.entries(large)) {
    const before = small[name]?.blocks ?? Number.NaN;
    assert.ok(blocks <= before + MAY_GROW, `${name}: ${before} blocks became ${blocks}`);
    t.diagnostic(`${name}: ${before} blocks, then ${blocks}`);
  }
});
