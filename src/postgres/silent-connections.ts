/**
 * Connections on which no answer comes any more: the path or the host is gone and nobody said so. TCP alone
 * notices that after minutes at best. Queries that are short by nature wait PROMPT for their answer; when one waits
 * in vain, all connections of the pool that have been silent for long are cut, which ends what waits on them, and
 * it is tried again on new ones.
 */
import type { Client, ClientBase, Pool, PoolClient } from "pg";

/** Part of a query whose answer comes at once from a server that is well. */
export const PROMPT = { query_timeout: 10_000 } as const;

/** Milliseconds for which a connection has been at the same query, or idle, to count as silent. */
const SILENT_MS = 5000;

/** What the driver rejects with when `query_timeout` is over. */
const TIMEOUT = "Query read timeout";

/** Milliseconds that a connection has to end as it should. */
const GOODBYE_MS = 1000;

/** Milliseconds between cuts until a pool has ended. */
const CUT_AGAIN_MS = 100;

/** The connections of a pool, those that are being made among them. */
const clientsOf = new WeakMap<Pool, ReadonlySet<ClientBase>>();

/**
 * Cuts the silent connections of this pool when one of its queries waited in vain.
 * @param clients its connections now, those that are being made among them
 */
export function cutSilentConnections(pool: Pool, clients: ReadonlySet<ClientBase>): void {
  clientsOf.set(pool, clients);
  const takenMs = new Map<PoolClient, number>();
  pool.on("acquire", (client) => takenMs.set(client, performance.now()));
  pool.on("remove", (client) => takenMs.delete(client));
  pool.on("release", (error: Error | undefined, client) => {
    if (error?.message !== TIMEOUT) return;
    const latestMs = performance.now() - SILENT_MS;
    for (const [one, sinceMs] of takenMs) if (one !== client && sinceMs < latestMs) cut(one);
    void cancel(pool, client);
  });
}

/** Ends a pool at once: queries under way fail, and so does every other one after this. */
export function endAtOnce(pool: Pool): void {
  const cutAll = () => {
    for (const client of clientsOf.get(pool) ?? []) cut(client);
  };
  cutAll();
  const again = setInterval(cutAll, CUT_AGAIN_MS).unref(); // those that wait for their turn to log in
  pool
    .end()
    .catch(() => undefined) // it was ended before
    .finally(() => clearInterval(again));
}

/** Ends a connection, also one on which no answer comes. */
export async function endSoon(client: Client): Promise<void> {
  const timer = setTimeout(() => cut(client), GOODBYE_MS);
  await client.end().catch(() => undefined);
  clearTimeout(timer);
}

function cut(client: ClientBase): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/** If the server is there after all, and the query waits for a lock say, it must not pile up with the next ones. */
async function cancel(pool: Pool, client: PoolClient): Promise<void> {
  const { processID } = client as { processID?: number | null };
  if (processID === undefined || processID === null) return;
  const text = `
    select pg_catalog.pg_cancel_backend(pid) from pg_catalog.pg_stat_activity
    where pid = $1 and usename = current_user and application_name = pg_catalog.current_setting('application_name')`;
  await pool.query({ text, values: [processID], ...PROMPT }).catch(() => undefined);
}
