/**
 * Writers that never stop, and the account of what became of each of their changes: a row of `orders` with
 * version 7 means that its versions 0 to 7 were committed, and that a delivery of each has to be there.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { TestEnd } from "../../postgres.ts";
import { eventually } from "../../processes.ts";
import type { Delivery, Shop } from "./shop.ts";

const PAUSE_MS = 10;
const RETRY_MS = 100;
const KEYS = 20;
const SETTLE_TIMEOUT_MS = 90_000;

export interface Account {
  /** Changes that are committed in the database. */
  readonly committed: number;
  readonly deliveries: number;
  /** Deliveries of what had been delivered before. */
  readonly repeats: number;
}

export interface Ledger {
  /** Changes that were acknowledged to the writer so far. */
  readonly written: number;
  /** Waits until this many more changes are written. */
  write(changes: number): Promise<void>;
  /** Holds the writer, waits until every committed change was delivered, and lets it go on. @throws Error with what is missing */
  settle(): Promise<Account>;
  stop(): Promise<void>;
}

/** `orders` must be empty, and captured. Writes about 50 changes a second until the end of the test, however often its connection breaks. */
export function keepLedger(t: TestEnd, shop: Shop): Ledger {
  const start = shop.deliveries().length;
  let written = 0;
  let next = 0;
  let ended = false;
  let held = false;
  let idle = true;
  const connection: { client: pg.Client | null } = { client: null };
  const leave = async () => {
    await connection.client?.end().catch(() => undefined);
    connection.client = null;
  };
  const writeOne = async () => {
    connection.client ??= await connect(shop);
    // A row is new, or was written lately: keys have several versions under way.
    const id = next % 2 === 0 ? next : Math.max(0, next - 1 - 2 * (next % KEYS));
    next += 1;
    await connection.client.query(
      "insert into orders values ($1, 0) on conflict (id) do update set version = orders.version + 1",
      [id],
    );
    written += 1;
  };
  const working = (async () => {
    while (!ended) {
      if (held) {
        idle = true;
        await sleep(PAUSE_MS);
        continue;
      }
      idle = false;
      try {
        await writeOne();
        await sleep(PAUSE_MS);
      } catch {
        await leave();
        await sleep(RETRY_MS);
      }
    }
    await leave();
  })();
  const stop = async () => {
    ended = true;
    await working;
  };
  t.after(stop);
  return {
    get written() {
      return written;
    },
    async write(changes) {
      const target = written + changes;
      await eventually(() => written >= target, { timeoutMs: 60_000, what: `${changes} more changes` });
    },
    async settle() {
      held = true;
      try {
        await eventually(() => idle, { what: "the end of a write" });
        const expected = await committed(shop);
        const what = "the delivery of every committed change";
        return await eventually(() => account(shop.deliveries().slice(start), expected), {
          timeoutMs: SETTLE_TIMEOUT_MS,
          what,
        });
      } finally {
        held = false;
      }
    },
    stop,
  };
}

async function connect(shop: Shop): Promise<pg.Client> {
  const client = new pg.Client({ ...shop.connection(), query_timeout: 10_000 });
  client.on("error", () => undefined); // the next query reports it
  await client.connect();
  return client;
}

/** `id:version` of each change that is committed. */
async function committed(shop: Shop): Promise<string[]> {
  const client = await connect(shop);
  try {
    const { rows } = await client.query<{ change: string }>(
      "select id || ':' || v as change from orders, generate_series(0, version) as v",
    );
    return rows.map(({ change }) => change);
  } finally {
    await client.end();
  }
}

/** @throws Error when something is missing, was never committed, or came first in the wrong order for its row */
function account(deliveries: readonly Delivery[], expected: readonly string[]): Account {
  const seen = new Map<string, string>();
  const last = new Map<number, number>();
  for (const { id, new: row } of deliveries) {
    const change = `${row.id}:${row.version}`;
    const before = seen.get(change);
    if (before !== undefined && before !== id)
      throw new Error(`${change} came under two ids: ${before} and ${id}`);
    if (before !== undefined) continue;
    seen.set(change, id);
    if (row.version !== (last.get(row.id) ?? -1) + 1)
      throw new Error(`${change} came after version ${last.get(row.id)}`);
    last.set(row.id, row.version);
  }
  const missing = expected.filter((change) => !seen.has(change));
  if (missing.length > 0)
    throw new Error(
      `${missing.length} of ${expected.length} are missing, such as ${missing.slice(0, 3).join(", ")}`,
    );
  if (seen.size > expected.length)
    throw new Error(`${seen.size - expected.length} came that were never committed`);
  return {
    committed: expected.length,
    deliveries: deliveries.length,
    repeats: deliveries.length - seen.size,
  };
}
