/** What a worker does while its database is away: nothing is lost, and it ends when it is told to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, ownServer } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

test("G1 a crash of the database in the middle loses nothing that was committed", async (t) => {
  const server = await ownServer(t);
  const receiver = await startReceiver(t);
  const source = localSource(t, server, { callbacks: [callbackTo(receiver.url)] });
  const before = await connect(t, server.url);
  await before.query("create table orders (id integer primary key)");
  await source.build();
  const worker = await source.startWorker();
  await before.query("insert into orders select i from generate_series(1, 5000) as i");
  await receiver.waitFor(200);
  await server.kill();
  await worker.waitForLine(/"database does not answer, trying again"/, 60_000);
  await server.restart();
  const after = await connect(t, server.url);
  await after.query("insert into orders values (5001)");
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size === 5001, 60_000);
  assert.equal(new Set(receiver.events.map(({ data }) => data.new?.id)).size, 5001);
});

test("a worker whose database is away lives, is not ready, and ends in time when it is told to", async (t) => {
  const server = await ownServer(t);
  const receiver = await startReceiver(t);
  const source = localSource(t, server, { callbacks: [callbackTo(receiver.url)] });
  const client = await connect(t, server.url);
  await client.query("create table orders (id integer primary key)");
  await source.build();
  const worker = await source.startWorker({ flags: ["--drain-seconds", "2"] });
  const { probes } = JSON.parse(await worker.waitForLine(/"worker started"/)) as { probes: number };
  await client.query("insert into orders values (1)");
  await receiver.waitFor(1);
  await server.kill();
  const status = async (path: string) => (await fetch(`http://127.0.0.1:${probes}${path}`)).status;
  await eventually(async () => (await status("/readyz")) === 503);
  assert.equal(await status("/livez"), 200);
  worker.kill("SIGTERM");
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
  await server.restart(); // for the end of the test
});
