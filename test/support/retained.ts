/** A large outbox that every callback has, made quickly; and what a query of it costs. */
import type pg from "pg";

/** Adds rows to the open segment as if a trigger had, ids from `first` on, of transactions that are long over. */
export async function retainRows(client: pg.Client, first: number, count: number): Promise<void> {
  await client.query(
    `insert into pgevents.outbox (id, xid, segment, operation, schema_name, table_name, new)
     select i, (3 + i / 1000 % 500)::text::xid8, (select last_value from pgevents.outbox_segment), 'I', 'public', 'orders',
       '{"id":' || i || ',"note":null}'
     from generate_series($1::bigint, $1::bigint + $2::bigint - 1) as i`,
    [first, count],
  );
  await client.query("select setval('pgevents.outbox_id', $1)", [first + count - 1]);
  await client.query("select pgevents.prepare_slices()");
}

export interface QueryCost {
  /** 8 KiB blocks touched. */
  readonly blocks: number;
  readonly milliseconds: number;
}

/** The queries of a relay and of the rounds, for a callback that has everything but what came since `seen`. */
export async function costsOf(
  client: pg.Client,
  seen: string,
  callback: string,
): Promise<Record<string, QueryCost>> {
  const { rows } = await client.query<{ last: string }>(
    "select last_value::text as last from pgevents.outbox_id",
  );
  const last = Number(rows[0]?.last);
  const { rows: snapshots } = await client.query<{ now: string }>(
    "select pg_current_snapshot()::text as now",
  );
  const window = `'${seen}', '${snapshots[0]?.now}', ${last - 10}, ${last}`;
  const queries: Record<string, string> = {
    read_fresh: `select * from pgevents.read_fresh('${seen}', 1000, 16384)`,
    read_slice: `select * from pgevents.read_slice(${window}, 16384)`,
    pending_events: `select * from pgevents.pending_events('${callback}', 10000)`,
    segment_is_needed: "select pgevents.segment_is_needed(0::smallint)",
    "pending_events in a window": `select * from pgevents.pending_in_window(${window.replace(/, \d+$/, "")}, 10000)`,
    is_from_elsewhere: "select pgevents.is_from_elsewhere()",
  };
  const costs: Record<string, QueryCost> = {};
  for (const [name, query] of Object.entries(queries)) {
    await client.query(query); // the first call in a session plans, and reads the catalog for that
    const { rows: plans } = await client.query<{
      "QUERY PLAN": [{ Plan: Record<string, number>; "Execution Time": number }];
    }>(`explain (analyze, buffers, format json) ${query}`);
    const [{ Plan: plan, "Execution Time": milliseconds }] = (plans[0] as (typeof plans)[number])[
      "QUERY PLAN"
    ];
    const blocks = (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0);
    costs[name] = { blocks, milliseconds };
  }
  return costs;
}
