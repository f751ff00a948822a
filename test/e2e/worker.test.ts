/** The guarantees of SPEC.md for capture and relay, with real processes, a real server and a real receiver. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { type Answer, type ReceivedEvent, startReceiver } from "../support/receiver.ts";
import { workerMetrics } from "../support/worker-metrics.ts";

const TABLE = "create table orders (id integer primary key, note text)";

/** A table, a receiver, and a source that is built. */
async function built(t: TestEnd) {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t);
  await database.query(TABLE);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  return { database, receiver, source };
}

/** The same with a worker at work. */
async function relaying(t: TestEnd) {
  const scene = await built(t);
  return { ...scene, worker: await scene.source.startWorker() };
}

const ids = (events: readonly ReceivedEvent[]) => events.map(({ id }) => id);
const newIds = (events: readonly ReceivedEvent[]) => events.map(({ data }) => data.new?.id);

test("G1 a transaction that commits late is not lost", async (t) => {
  const { database, receiver } = await relaying(t);
  const late = await connect(t, database.url);
  await late.query("begin");
  await late.query("insert into orders values (1, 'late')"); // takes its outbox id first
  await database.query("insert into orders values (2, 'early')");
  await receiver.waitFor((events) => newIds(events).includes(2));
  await late.query("commit");
  await receiver.waitFor(2);
  assert.deepEqual(newIds(receiver.events), [2, 1]);
});

test("G6 what is rolled back is not delivered, savepoints included", async (t) => {
  const { database, receiver } = await relaying(t);
  await database.query("begin; insert into orders values (1); rollback");
  await database.query(
    "begin; insert into orders values (2); savepoint s; insert into orders values (3); rollback to s; commit",
  );
  await database.query("insert into orders values (4)");
  await receiver.waitFor((events) => newIds(events).includes(4));
  assert.deepEqual(newIds(receiver.events), [2, 4]);
});

test("every operation arrives with its images, key and operation", async (t) => {
  const { database, receiver } = await relaying(t);
  await database.query("insert into orders values (1, 'a')");
  await database.query("update orders set note = 'b'");
  await database.query("delete from orders");
  await database.query("truncate orders");
  const events = await receiver.waitFor(4);
  assert.deepEqual(
    events.map(({ type, data }) => [type, data.operation, data.key, data.old, data.new]),
    [
      ["dev.pgevents.row.inserted", "Insert", [1], null, { id: 1, note: "a" }],
      ["dev.pgevents.row.updated", "Update", [1], { id: 1, note: "a" }, { id: 1, note: "b" }],
      ["dev.pgevents.row.deleted", "Delete", [1], { id: 1, note: "b" }, null],
      ["dev.pgevents.row.truncated", "Truncate", null, null, null],
    ],
  );
});

test("a row of 1 MB passes", async (t) => {
  const { database, receiver } = await relaying(t);
  const note = "0123456789abcdef".repeat(65_536);
  await database.query("insert into orders values (1, $1)", [note]);
  await database.query("update orders set note = note || '!'");
  const events = await receiver.waitFor(2);
  assert.equal(events[0]?.data.new?.note, note);
  assert.equal(events[1]?.data.old?.note, note);
  assert.equal(events[1]?.data.new?.note, `${note}!`);
});

test("G1 what happens while no worker runs is delivered later, each once", async (t) => {
  const { database, receiver, source } = await built(t);
  // More than one read holds, so that slices are read as well; deletions leave gaps between the rows.
  await database.query("insert into orders select i from generate_series(1, 3500) as i");
  await database.query("begin; insert into orders select i from generate_series(5000, 6000) as i; rollback");
  await database.query("insert into orders values (4000, 'last')");
  const worker = await source.startWorker();
  await receiver.waitFor(3501);
  worker.kill("SIGTERM");
  assert.equal((await worker.exited).code, 0);
  await source.startWorker();
  await database.query("insert into orders values (4001, 'after')");
  await receiver.waitFor((events) => newIds(events).includes(4001));
  assert.equal(new Set(ids(receiver.events)).size, 3502);
  assert.equal(receiver.events.length, 3502, "nothing twice");
});

test("G5 two workers do not deliver twice, and share the callbacks", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t);
  await database.query(TABLE);
  const callbacks = [callbackTo(receiver.url, { name: "one" }), callbackTo(receiver.url, { name: "two" })];
  const source = localSource(t, database, { callbacks });
  await source.build();
  const first = await source.startWorker();
  await source
    .startWorker({ waitForRelay: false })
    .then((worker) => worker.waitForLine(/"database answers"/));
  for (let id = 1; id <= 200; id += 1) await database.query("insert into orders values ($1)", [id]);
  await receiver.waitFor(400);
  first.kill("SIGTERM"); // hands its callbacks over
  assert.equal((await first.exited).code, 0);
  for (let id = 201; id <= 400; id += 1) await database.query("insert into orders values ($1)", [id]);
  await receiver.waitFor(800);
  for (const path of ["/one", "/two"]) {
    const received = receiver.events.filter(({ callbackPath }) => callbackPath === path);
    assert.deepEqual(
      newIds(received).sort((a, b) => Number(a) - Number(b)),
      Array.from({ length: 400 }, (_, index) => index + 1),
    );
  }
});

test("G1 G5 kill -9 in the middle of draining 20,000 events loses none; few repeat, with the same id", async (t) => {
  const { database, receiver, source, worker } = await relaying(t);
  await database.query("insert into orders select i from generate_series(1, 20000) as i");
  await receiver.waitFor(5000);
  worker.kill("SIGKILL");
  await worker.exited;
  assert.ok(receiver.events.length < 20_000, "it was killed in the middle");
  await source.startWorker();
  await receiver.waitFor(() => receiver.events.length - receiver.duplicates === 20_000, 60_000);
  const byId = new Map<string, unknown>();
  for (const { id, data } of receiver.events) {
    if (byId.has(id)) assert.deepEqual(byId.get(id), data.new);
    byId.set(id, data.new);
  }
  assert.equal(new Set(receiver.events.map(({ data }) => data.new?.id)).size, 20_000);
  t.diagnostic(`${receiver.duplicates} repeats`);
  assert.ok(receiver.duplicates <= 76, `${receiver.duplicates} repeats`);
});

test("G2 events of one row arrive in commit order; a failing key delays only itself", async (t) => {
  const database = await testDatabase(t, { owner: true });
  let refuse = true;
  const receiver = await startReceiver(t, {
    respond: ({ events }) => (refuse && events[0]?.subject.endsWith("/[1]") ? 500 : 204),
  });
  await database.query(TABLE);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  await source.startWorker();
  await database.query("insert into orders values (1, '0'), (2, '0')");
  for (let round = 1; round <= 20; round += 1)
    await database.query("update orders set note = $1", [String(round)]);
  const notes = (id: number) =>
    receiver.events.filter(({ data }) => data.new?.id === id).map(({ data }) => Number(data.new?.note));
  await receiver.waitFor(() => notes(2).length === 21);
  assert.deepEqual(notes(1), []);
  refuse = false;
  await receiver.waitFor(() => notes(1).length === 21);
  const inOrder = Array.from({ length: 21 }, (_, round) => round);
  assert.deepEqual(notes(1), inOrder);
  assert.deepEqual(notes(2), inOrder);
});

test("F41 a refused event becomes a dead letter at once, one that keeps failing after its attempts", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t, {
    respond: ({ events }) =>
      events[0]?.data.new?.note === "bad" ? 422 : events[0]?.data.new?.note === "failing" ? 500 : 204,
  });
  await database.query(TABLE);
  const delivery = { attempts: 3, backoffSeconds: 1, maxBackoffSeconds: 1 };
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url, { delivery })] });
  await source.build();
  const worker = await source.startWorker();
  await database.query("insert into orders values (1, 'bad'), (2, 'good'), (3, 'failing')");
  await database.query("update orders set note = 'better'");
  const letters = await eventually(async () => {
    const { rows } = await database.query(
      "select callback, key, attempts, error, new::json ->> 'note' as note from pgevents.dead_letter order by id",
    );
    return rows.length === 2 ? rows : null;
  });
  assert.deepEqual(letters, [
    {
      callback: "orders",
      key: "[1]",
      attempts: 1,
      error: "422: the receiver refuses the event",
      note: "bad",
    },
    {
      callback: "orders",
      key: "[3]",
      attempts: 3,
      error: "500: the receiver cannot take the event now",
      note: "failing",
    },
  ]);
  await receiver.waitFor(4);
  assert.equal(receiver.requests.filter(({ events }) => events[0]?.data.new?.note === "failing").length, 3);
  await eventually(async () => {
    const sample = await workerMetrics(worker);
    const settled = (result: string) =>
      sample(`pgevents_deliveries_total{callback="orders",result="${result}"}`);
    assert.deepEqual(["success", "rejected", "dead_letter"].map(settled), [4, 1, 1]);
    assert.equal(sample('pgevents_dead_letters_total{callback="orders"}'), 2, "both of them");
    return true;
  });
});

test("F41 a receiver that is down for a while gets everything, each once, and few attempts meanwhile", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t);
  await database.query(TABLE);
  const source = localSource(t, database, {
    callbacks: [callbackTo(receiver.url, { delivery: { backoffSeconds: 1, maxBackoffSeconds: 1 } })],
  });
  await source.build();
  const worker = await source.startWorker();
  await receiver.close();
  await database.query("insert into orders select i from generate_series(1, 300) as i");
  await worker.waitForLine(/"delivery failed"/);
  await receiver.reopen();
  await receiver.waitFor(300);
  assert.equal(new Set(ids(receiver.events)).size, 300);
  assert.equal(receiver.events.length, 300);
});

test("F41 G1 a receiver that answers 500 for 5 seconds under 100 transactions a second gets everything by few requests", async (t) => {
  const database = await testDatabase(t, { owner: true });
  let failing = true;
  const receiver = await startReceiver(t, { respond: () => (failing ? 500 : 204) });
  await database.query(TABLE);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  const worker = await source.startWorker();
  const startMs = performance.now();
  for (let id = 1; id <= 600; id += 1) {
    await sleep(Math.max(0, startMs + id * 10 - performance.now()));
    if (failing && performance.now() - startMs >= 5000) failing = false;
    await database.query("insert into orders values ($1)", [id]);
  }
  await receiver.waitFor(600, 60_000);
  assert.deepEqual([new Set(newIds(receiver.events)).size, receiver.duplicates], [600, 0]);
  const failed = receiver.requests.length - receiver.events.length;
  t.diagnostic(`${failed} failed requests`);
  assert.ok(failed > 0 && failed <= 192, `${failed} failed requests`);
  assert.equal((await database.query("select from pgevents.dead_letter")).rowCount, 0);
  worker.kill("SIGTERM");
  assert.equal((await worker.exited).code, 0);
});

test("F41 receivers that hang, fail, redirect and have no certificate leave the other callback alone", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const faults: Record<string, Answer> = {
    hanging: "hang",
    failing: 503,
    redirecting: { status: 302, headers: { location: "/good" } },
  };
  let down = true;
  const receiver = await startReceiver(t, {
    respond: ({ path }) => (down ? (faults[path.slice(1)] ?? 204) : 204),
  });
  await database.query(TABLE);
  const delivery = { timeoutSeconds: 1, backoffSeconds: 1, maxBackoffSeconds: 1 };
  const names = ["good", ...Object.keys(faults)];
  const source = localSource(t, database, {
    callbacks: [
      ...names.map((name) => callbackTo(receiver.url, { name, delivery })),
      callbackTo(receiver.url.replace("http:", "https:"), { name: "secured", delivery }),
    ],
  });
  await source.build();
  await source.startWorker();
  await database.query("insert into orders select i from generate_series(1, 50) as i");
  const got = (name: string) =>
    receiver.events.filter(({ callbackPath }) => callbackPath === `/${name}`).map(({ id }) => id);
  await receiver.waitFor(() => got("good").length === 50);
  assert.deepEqual([got("hanging"), got("failing")], [[], []]);
  const letters = async () =>
    (await database.query("select distinct callback, error from pgevents.dead_letter")).rows;
  await eventually(async () => (await letters()).length > 0, { what: "what the redirect became" });
  assert.deepEqual(
    (await letters()).map(({ callback }) => callback),
    ["redirecting"],
  );
  down = false;
  await receiver.waitFor(() => got("hanging").length === 50 && got("failing").length === 50, 60_000);
  assert.equal(got("good").length, 50, "none of them twice, and none by the redirect");
  assert.deepEqual(got("secured"), []);
});

test("CloudEventsBatch carries many events a request, in order for each key", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t);
  await database.query(TABLE);
  const callback = callbackTo(receiver.url, {
    http: { format: "CloudEventsBatch" },
    batch: { maxEvents: 50 },
  });
  const source = localSource(t, database, { callbacks: [callback] });
  await source.build();
  await database.query("insert into orders select i, '0' from generate_series(1, 20) as i");
  for (let round = 1; round <= 10; round += 1)
    await database.query("update orders set note = $1", [String(round)]);
  await source.startWorker();
  const events = await receiver.waitFor(220);
  assert.ok(receiver.requests.length <= 20, `${receiver.requests.length} requests`);
  for (let id = 1; id <= 20; id += 1) {
    const notes = events.filter(({ data }) => data.new?.id === id).map(({ data }) => data.new?.note);
    assert.deepEqual(
      notes,
      Array.from({ length: 11 }, (_, round) => String(round)),
    );
  }
});

test("G3 a writer does not wait for a callback that hangs", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t, { respond: () => "hang" });
  await database.query(TABLE);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  await source.startWorker();
  await database.query("insert into orders values (0)");
  await eventually(() => receiver.requests.length > 0);
  await database.query("set statement_timeout = '5s'");
  for (let id = 1; id <= 100; id += 1) await database.query("insert into orders values ($1)", [id]);
  const { rows } = await database.query<{ waiting: string }>(
    "select count(*) as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
  );
  assert.equal(rows[0]?.waiting, "0");
});

test("G4 a new table and an altered one are captured within seconds, without a build by hand", async (t) => {
  const { database, receiver, worker } = await relaying(t);
  await database.query("create table invoices (id integer primary key)");
  await worker.waitForLine(/"schema changed: capture renewed"/);
  await database.query("insert into invoices values (7)");
  await database.query("alter table orders add column total numeric");
  await database.query("insert into orders values (1, 'x', 12.50)");
  const events = await receiver.waitFor(2);
  const insert = events.find(({ data }) => data.relation.table === "orders");
  assert.deepEqual(insert?.data.new, { id: 1, note: "x", total: 12.5 });
  assert.ok(events.some(({ data }) => data.relation.table === "invoices"));
});

test("the worker survives the loss of its connections and of the server's sessions", async (t) => {
  const { database, receiver } = await relaying(t);
  for (let round = 1; round <= 3; round += 1) {
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pg-events/%' and datname = current_database()",
    );
    await database.query("insert into orders values ($1)", [round]);
    await receiver.waitFor((events) => newIds(events).includes(round));
  }
});

test("a worker that drains hands its callbacks over, whatever it was doing, and warns of nothing", async (t) => {
  const { database, receiver, source, worker } = await relaying(t);
  let draining = worker;
  for (let round = 1; round <= 5; round += 1) {
    await database.query("insert into orders values ($1)", [round]);
    await receiver.waitFor(round);
    draining.kill("SIGTERM"); // a checkpoint is being written just now
    const { code } = await draining.exited;
    const { rows } = await database.query("select holder from pgevents.callback");
    assert.deepEqual([code, rows], [0, [{ holder: null }]]);
    assert.doesNotMatch(draining.stderr, /"level":"warn"/);
    draining = await source.startWorker();
  }
});
