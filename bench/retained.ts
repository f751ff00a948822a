/** What the queries of a relay and of the rounds cost beside retained rows: 8 KiB blocks touched, and time. */
import { costsOf, type QueryCost, retainRows } from "../test/support/retained.ts";
import type { Bench } from "./setup.ts";
import { INSERT } from "./setup.ts";

const SIZES = [100_000, 1_000_000, 10_000_000];

export async function benchRetained(bench: Bench): Promise<string[]> {
  const { client } = bench;
  await client.query("truncate bench restart identity");
  await bench.build(bench.source("http://127.0.0.1:1/"));
  const costs = new Map<string, QueryCost[]>();
  let retained = 0;
  for (const size of SIZES) {
    await retainRows(client, retained + 2, size - retained);
    retained = size;
    await client.query("update pgevents.callback set seen = pg_current_snapshot()");
    const { rows } = await client.query<{ seen: string }>("select seen::text from pgevents.callback");
    await client.query(INSERT); // one event that is new
    for (const [name, cost] of Object.entries(await costsOf(client, rows[0]?.seen ?? "", "bench")))
      costs.set(name, [...(costs.get(name) ?? []), cost]);
  }
  const bytes =
    "select pg_size_pretty(sum(pg_total_relation_size(inhrelid))) as size from pg_inherits where inhparent = 'pgevents.outbox'::regclass";
  const { rows } = await client.query<{ size: string }>(bytes);
  await bench.remove();
  const heads = SIZES.map((size) => `${size / 1000}k rows`);
  return [
    `| query | ${heads.join(" | ")} |`,
    `|---|${heads.map(() => "---|").join("")}`,
    ...[...costs].map(
      ([name, of]) =>
        `| ${name} | ${of.map(({ blocks, milliseconds }) => `${blocks} blocks, ${milliseconds.toFixed(2)} ms`).join(" | ")} |`,
    ),
    "",
    `The outbox takes ${rows[0]?.size} then.`,
  ];
}
