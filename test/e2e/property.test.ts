/** Whatever writers, migrations and crashes do: the delivered stream, applied in order, rebuilds every table. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { RANDOM_TABLES, randomFrom, writeAtRandom } from "../support/random-writers.ts";
import { startReceiver } from "../support/receiver.ts";
import { Replica, rowText } from "../support/replica.ts";

/** PG_EVENTS_TEST_SEEDS=5,6,7 tries others. */
const SEEDS = (process.env.PG_EVENTS_TEST_SEEDS ?? "1,2,3").split(",").map(Number);
const STEPS = 2000;
const TABLES = ["orders", "lines", "log", "sales"];

async function contentOf(
  database: TestDatabase,
  table: string,
): Promise<{ columns: string[]; rows: string[] }> {
  const columns = await database.query<{ attname: string }>(
    "select attname::text from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attname",
    [table],
  );
  const names = columns.rows.map(({ attname }) => attname);
  const { rows } = await database.query<{ row: Record<string, unknown> }>(
    `select row_to_json(r) as row from ${table} as r`,
  );
  return { columns: names, rows: rows.map(({ row }) => rowText(row, names)).sort() };
}

async function rebuilds(t: TestContext, seed: number, owner: boolean, workerCount: number): Promise<void> {
  const random = randomFrom(seed);
  const database = await testDatabase(t, { owner });
  await database.query(RANDOM_TABLES);
  const receiver = await startReceiver(t, { respond: () => (random(40) === 0 ? 503 : 204) });
  const delivery = { maxInFlight: 1 + random(16), backoffSeconds: 1, maxBackoffSeconds: 1 };
  const format = ["CloudEventsBinary", "CloudEventsBatch"][random(2)];
  const source = localSource(t, database, {
    callbacks: [callbackTo(receiver.url, { name: "all", http: { format }, delivery })],
  });
  await source.build();
  const workers = [await source.startWorker()];
  while (workers.length < workerCount) workers.push(await source.startWorker({ waitForRelay: false }));
  await writeAtRandom(t, database, random, {
    steps: STEPS,
    async between(step) {
      if (step % 400 !== 0) return;
      const signal = random(2) === 0 ? "SIGKILL" : "SIGTERM";
      const [worker] = workers.splice(random(workers.length), 1);
      worker?.kill(signal);
      await worker?.exited;
      workers.push(await source.startWorker({ waitForRelay: false }));
    },
  });
  const { rows } = await database.query<{ captured: number }>(
    "select count(*)::int as captured from pgevents.logged(false) where operation <> 'S'",
  );
  const captured = rows[0]?.captured ?? 0;
  assert.ok(captured > STEPS / 5, `${captured} events`);
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size >= captured, 60_000);
  const replica = new Replica();
  for (const event of receiver.events) replica.apply(event);
  assert.equal(replica.received, captured);
  for (const table of TABLES) {
    const { columns, rows: expected } = await contentOf(database, table);
    assert.deepEqual(replica.content(table, columns), expected, table);
  }
}

for (const seed of SEEDS) {
  const workers = 1 + (seed % 3);
  test(`G1 G2 G6 the stream rebuilds every table exactly (seed ${seed}, ${workers} workers)`, (t) =>
    rebuilds(t, seed, seed % 2 === 0, workers));
}
