/** A physical replica takes over, or a server comes back without its last commits, while a worker runs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type pg from "pg";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, ownServer } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { type ReceivedEvent, startReceiver } from "../support/receiver.ts";
import { startReplicated } from "../support/standby.ts";
import { startSwitchboard } from "../support/switchboard.ts";

const idsOf = (events: readonly ReceivedEvent[]) => new Set(events.map(({ data }) => data.new?.id as number));
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

async function insertOneByOne(client: pg.Client, ids: readonly number[]): Promise<void> {
  for (const id of ids) await client.query("insert into orders values ($1)", [id]);
}

test("G1 a synchronous replica that is promoted keeps backlog, positions and leases; what a writer was told is delivered", async (t) => {
  const { primary, replica, promote } = await startReplicated(t);
  const switchboard = await startSwitchboard(t, primary.port);
  let open = true;
  const receiver = await startReceiver(t, { respond: () => (open ? 204 : 503) });
  const delivery = { backoffSeconds: 1, maxBackoffSeconds: 1, attempts: 1000 };
  const source = localSource(
    t,
    { url: switchboard.through(primary.url) },
    {
      callbacks: [callbackTo(receiver.url, { delivery })],
    },
  );
  const admin = await connect(t, primary.url);
  await admin.query("create table orders (id integer primary key)");
  await admin.query("alter system set synchronous_standby_names = 'replica'");
  await admin.query("select pg_reload_conf()");
  await source.build();
  await source.startWorker();
  await insertOneByOne(admin, range(1, 50));
  await receiver.waitFor(50);
  open = false; // a backlog
  const acknowledged: number[] = range(1, 50);
  const writer = (async () => {
    const client = await connect(t, primary.url);
    for (let id = 51; ; id += 1) {
      const { rowCount } = await client.query("insert into orders values ($1)", [id]);
      if (rowCount === 1) acknowledged.push(id);
    }
  })().catch(() => undefined);
  await eventually(() => acknowledged.length > 500);
  await primary.kill();
  await writer;
  switchboard.switchTo(null);
  await promote();
  const promoted = await connect(t, replica.url);
  await promoted.query("alter system reset synchronous_standby_names");
  await promoted.query("select pg_reload_conf()");
  await insertOneByOne(promoted, range(10_001, 10_010));
  open = true;
  switchboard.switchTo(replica.port);
  const all = [...acknowledged, ...range(10_001, 10_010)];
  await receiver.waitFor((events) => all.every((id) => idsOf(events).has(id)), 60_000);
  const lost = await promoted.query("select lost_events from pgevents.callback");
  assert.equal(lost.rows[0]?.lost_events, "0");
});

test("G1 after a failover to a replica that lacks the last commits a worker goes on from the position that is stored there", async (t) => {
  const { primary, replica, caughtUp, promote } = await startReplicated(t);
  const switchboard = await startSwitchboard(t, primary.port);
  const receiver = await startReceiver(t);
  const source = localSource(
    t,
    { url: switchboard.through(primary.url) },
    {
      callbacks: [callbackTo(receiver.url)],
    },
  );
  const writer = await connect(t, primary.url);
  await writer.query("create table orders (id integer primary key)");
  await source.build();
  const worker = await source.startWorker();
  await insertOneByOne(writer, range(1, 5));
  await receiver.waitFor(5);
  await caughtUp();
  await replica.kill();
  // The replica never hears of these; the worker has them, and a position behind them.
  await insertOneByOne(writer, range(1001, 1300));
  await receiver.waitFor(305);
  await primary.kill();
  switchboard.switchTo(null);
  await replica.restart();
  await promote();
  const promoted = await connect(t, replica.url);
  // Transaction ids are given out a second time.
  await insertOneByOne(promoted, range(2001, 2020));
  switchboard.switchTo(replica.port);
  await receiver.waitFor((events) => range(2001, 2020).every((id) => idsOf(events).has(id)), 60_000);
  await insertOneByOne(promoted, range(2021, 2030));
  await receiver.waitFor((events) => range(2021, 2030).every((id) => idsOf(events).has(id)), 60_000);
  await worker.waitForLine(/"(lease lost|relay stopped)/);
});

test("G1 a crash that takes back commits which the worker has seen (synchronous_commit off) loses nothing that stays", async (t) => {
  const server = await ownServer(t, { synchronous_commit: "off", wal_writer_delay: "10s" });
  const receiver = await startReceiver(t);
  const source = localSource(t, server, { callbacks: [callbackTo(receiver.url)] });
  const before = await connect(t, server.url);
  await before.query("create table orders (id integer primary key)");
  await source.build();
  await source.startWorker();
  await before.query("insert into orders values (1)");
  await receiver.waitFor(1);
  await before.query("checkpoint");
  await insertOneByOne(before, range(1001, 1300));
  await receiver.waitFor(301);
  await server.kill();
  await server.restart();
  const after = await connect(t, server.url);
  const kept = await after.query("select count(*)::integer as kept from orders where id > 1000");
  t.diagnostic(`${kept.rows[0]?.kept} of 300 commits survived the crash`);
  assert.ok(kept.rows[0]?.kept < 300, "the crash took commits back");
  await insertOneByOne(after, range(2001, 2020));
  await receiver.waitFor((events) => range(2001, 2020).every((id) => idsOf(events).has(id)), 60_000);
});
