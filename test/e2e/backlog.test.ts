/** A worker keeps the outbox within the limits of the spec, and says what that costs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { workerMetrics } from "../support/worker-metrics.ts";

const MAX_BYTES = 16 * 2 ** 20;
/** 200 kB that do not compress. */
const LARGE = "(select string_agg(md5(i::text || j), '') from generate_series(1, 6250) as j)";
const RETRY = { backoffSeconds: 1, maxBackoffSeconds: 1, attempts: 1000 };

test("DropOldest under a relay that has read the rows, large ones not yet: it goes on, and the loss is told", async (t) => {
  const database = await testDatabase(t, { owner: true });
  let open = false;
  const receiver = await startReceiver(t, { respond: () => (open ? 204 : 503) });
  const source = localSource(t, database, {
    capture: { backlog: { maxBytes: MAX_BYTES, onLimit: "DropOldest" } },
    callbacks: [callbackTo(receiver.url, { delivery: RETRY })],
  });
  await database.query("create table orders (id integer primary key, note text)");
  await source.build();
  const worker = await source.startWorker();
  await database.query(`insert into orders select i, ${LARGE} from generate_series(1, 120) as i`);
  const told = JSON.parse(await worker.waitForLine(/"events were dropped/)) as {
    dropped: { callback: string; events: number }[];
  };
  assert.deepEqual(told.dropped, [{ callback: "orders", events: 120 }]);
  await database.query(`insert into orders select i, ${LARGE} from generate_series(1001, 1002) as i`);
  await database.query("insert into orders select i from generate_series(1003, 1010) as i");
  open = true;
  const wanted = Array.from({ length: 10 }, (_, index) => 1001 + index);
  await receiver.waitFor((events) => wanted.every((id) => events.some(({ data }) => data.new?.id === id)));
  const pending = "select counted::integer from pgevents.pending_events('orders', 10000)";
  await eventually(async () => (await database.query(pending)).rows[0]?.counted === 0, {
    what: "the position",
  });
  await eventually(
    async () => (await workerMetrics(worker))('pgevents_lost_events{callback="orders"}') === 120,
  );
  assert.ok((await workerMetrics(worker))("pgevents_outbox_bytes") < MAX_BYTES);
  assert.equal((await database.query("select from pgevents.dead_letter")).rowCount, 0);
});

test("G3 Pause: writers go on, and capture goes on once the callback has caught up", async (t) => {
  const database = await testDatabase(t, { owner: true });
  let open = false;
  const receiver = await startReceiver(t, { respond: () => (open ? 204 : 503) });
  const source = localSource(t, database, {
    capture: { backlog: { maxBytes: MAX_BYTES, onLimit: "Pause" } },
    callbacks: [callbackTo(receiver.url, { delivery: RETRY })],
  });
  await database.query("create table orders (id integer primary key, note text)");
  await source.build();
  const worker = await source.startWorker();
  await database.query(`insert into orders select i, ${LARGE} from generate_series(1, 100) as i`);
  await worker.waitForLine(/"capture is paused/);
  await database.query("insert into orders values (1001)");
  await eventually(async () => (await workerMetrics(worker))("pgevents_capture_paused") === 1);
  open = true;
  await worker.waitForLine(/"capture goes on/, 60_000);
  await database.query("insert into orders values (1002)");
  const events = await receiver.waitFor((all) => all.some(({ data }) => data.new?.id === 1002));
  const ids = new Set(events.map(({ data }) => data.new?.id));
  assert.equal(
    ids.size,
    101,
    "what was captured before the pause is delivered, what was written in it is not",
  );
  assert.ok(!ids.has(1001));
  await eventually(async () => (await workerMetrics(worker))("pgevents_capture_paused") === 0);
});

test("the limit holds while every callback is suspended; who holds the outbox back can be seen", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const source = localSource(t, database, {
    capture: { backlog: { maxBytes: MAX_BYTES, onLimit: "Alert" } },
    callbacks: [callbackTo("http://127.0.0.1:1", { suspend: true })],
  });
  await database.query("create table orders (id integer primary key, note text)");
  await source.build();
  const worker = await source.startWorker({ waitForRelay: false });
  await database.query(`insert into orders select i, ${LARGE} from generate_series(1, 100) as i`);
  const { limit } = JSON.parse(await worker.waitForLine(/"the outbox is at its limit"/)) as { limit: string };
  assert.match(
    limit,
    /^The outbox takes more than maxBytes \(16\.0 MiB\)\. Callback orders has not got the oldest events/,
  );
  const read = await eventually(async () => {
    const of = await workerMetrics(worker);
    const told = of('pgevents_backlog_limit_reached{limit="Bytes"}') === 1;
    return told && of('pgevents_pending_events{callback="orders"}') === 100 ? of : null; // each in a round of its own
  });
  assert.equal(read('pgevents_lost_events{callback="orders"}'), 0);
});
