/** Callbacks to standard output, and filter expressions, with the real program. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually, runCli } from "../support/processes.ts";
import { type ReceivedEvent, startReceiver } from "../support/receiver.ts";
import { workerMetrics } from "../support/worker-metrics.ts";

async function built(t: TestEnd, callbacks: readonly Record<string, unknown>[]) {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key, status text, note text)");
  const source = localSource(t, database, { callbacks });
  await source.build();
  return { database, source };
}

test("G1 G2 G5 standard output has each event once as a line of JSON, and nothing else; the log goes to standard error", async (t) => {
  const { database, source } = await built(t, [{ name: "log", stdout: {} }]);
  const worker = await source.startWorker();
  const note = "x".repeat(50_000);
  await database.query("insert into orders select i, '0', $1 from generate_series(1, 100) as i", [note]);
  for (let round = 1; round <= 5; round += 1)
    await database.query("update orders set status = $1", [String(round)]);
  await eventually(() => worker.stdout.split("\n").length > 600, { timeoutMs: 30_000 });
  worker.kill();
  assert.equal((await worker.exited).code, 0, worker.stderr);
  const events = worker.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as ReceivedEvent);
  assert.equal(new Set(events.map(({ id }) => id)).size, 600);
  assert.equal(events.length, 600);
  const byRow = Map.groupBy(events, ({ subject }) => subject);
  for (const row of byRow.values()) {
    assert.deepEqual(
      row.map(({ data }) => data.new?.status),
      ["0", "1", "2", "3", "4", "5"],
    );
  }
  assert.match(worker.stderr, /worker stopped/);
});

test("an expression decides which rows a callback gets, also of rows that are too large to read ahead", async (t) => {
  const receiver = await startReceiver(t);
  const filter = { expression: "row.status == 'paid' && (operation == 'Insert' || 'status' in changed)" };
  const { database, source } = await built(t, [
    callbackTo(receiver.url, { name: "paid", filter }),
    callbackTo(receiver.url, { name: "missing", filter: { expression: "row.missing > 1" } }),
  ]);
  const worker = await source.startWorker();
  const large = "x".repeat(40_000);
  await database.query(
    "insert into orders values (1, 'new', $1), (2, 'paid', $1), (3, 'new', ''), (4, 'paid', '')",
    [large],
  );
  await database.query("update orders set status = 'paid' where id in (1, 3)");
  await database.query("update orders set note = note || '!'");
  await database.query("truncate orders");
  const of = (name: string) => receiver.events.filter(({ callbackPath }) => callbackPath === `/${name}`);
  await receiver.waitFor(() => of("paid").some(({ data }) => data.operation === "Truncate"));
  assert.deepEqual(
    of("paid")
      .map(({ data }) => [data.operation, data.key?.[0]])
      .sort(),
    [
      ["Insert", 2],
      ["Insert", 4],
      ["Truncate", undefined],
      ["Update", 1],
      ["Update", 3],
    ],
  );
  assert.equal(of("paid").find(({ data }) => data.key?.[0] === 1)?.data.new?.note, large);
  await receiver.waitFor(() => of("missing").length === 11); // it cannot say of any row: all are delivered
  const line = await worker.waitForLine(/expression cannot say/);
  assert.match(line, /column 5: no such key/);
  const sample = await workerMetrics(worker);
  assert.equal(sample('pgevents_filter_errors_total{callback="missing"}'), 10);
  assert.equal(sample('pgevents_filter_errors_total{callback="paid"}'), 0);
});

test("an expression that is none is told when the manifest is read, with its place", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const source = localSource(t, database, {
    callbacks: [callbackTo("http://127.0.0.1:9", { filter: { expression: "row.total >" } })],
  });
  for (const command of ["build", "worker"]) {
    const { code, stderr } = await runCli(t, [command, "--manifest", source.manifest], {
      env: { PG_EVENTS_DATABASE_URL: database.url },
    });
    assert.equal(code, 1);
    assert.match(
      stderr,
      /PGE_MANIFEST_INVALID: .*spec\.callbacks\[0\]\.filter\.expression: column 12: Unexpected token: EOF/,
    );
  }
});
