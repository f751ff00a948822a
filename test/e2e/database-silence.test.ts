/** A database that does not answer, and whose connections nobody ends: a path that is lost, a host that is frozen. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { silentProxy } from "../support/silent-proxy.ts";

async function scene(t: TestEnd) {
  let endProxy: () => Promise<void> | void = () => undefined;
  t.after(() => endProxy()); // first: the database cannot be dropped while a login is under way
  const database = await testDatabase(t);
  const receiver = await startReceiver(t);
  await database.query("create table orders (id integer primary key)");
  const after = (work: typeof endProxy) => {
    endProxy = work;
  };
  const proxy = await silentProxy({ after }, database.url);
  const source = localSource(t, proxy, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  const worker = await source.startWorker({ flags: ["--drain-seconds", "2"] });
  const { probes } = JSON.parse(await worker.waitForLine(/"worker started"/)) as { probes: number };
  await database.query("insert into orders values (1)");
  await receiver.waitFor(1);
  const ready = async () => (await fetch(`http://127.0.0.1:${probes}/readyz`)).status === 200;
  return { database, receiver, proxy, worker, ready };
}

test("F58 G1 connections on which nothing comes any more are given up, the one for wake-ups too", async (t) => {
  const { database, receiver, proxy, worker } = await scene(t);
  proxy.hush();
  await database.query("insert into orders select i from generate_series(2, 500) as i");
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size === 500, 60_000);
  await worker.waitForLine(/"wake-up connection lost"/, 60_000);
  await eventually(async () => {
    const { rowCount } = await database.query(
      "select from pg_stat_activity where datname = current_database() and query like '%pg_try_advisory_lock%' and state = 'idle'",
    );
    return rowCount === 1; // it sleeps by the new one
  });
  await database.query("insert into orders values (501)");
  await receiver.waitFor((events) => events.some(({ data }) => data.new?.id === 501));
});

test("F58 a worker whose database is silent ends in time when it is told to", async (t) => {
  const { database, proxy, worker } = await scene(t);
  await database.query("insert into orders select i from generate_series(2, 100) as i");
  proxy.freeze();
  worker.kill("SIGTERM");
  const toldMs = performance.now();
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
  assert.ok(performance.now() - toldMs < 10_000, `${performance.now() - toldMs} ms`);
});

test("F58 G1 a database that is frozen is noticed, and relaying goes on when it answers again", async (t) => {
  const { database, receiver, proxy, worker, ready } = await scene(t);
  proxy.freeze();
  await database.query("insert into orders select i from generate_series(2, 100) as i");
  await worker.waitForLine(/"database does not answer, trying again"/, 60_000);
  assert.equal(await ready(), false);
  proxy.thaw();
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size === 100, 60_000);
  await eventually(ready);
});
