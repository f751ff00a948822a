/** Limits of the outbox: what happens when it grows too large or too old. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type pg from "pg";
import { keepOutbox } from "../../src/postgres/backlog.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { readDeliveryStatus, readLosses } from "../../src/postgres/delivery-status.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { OutboxCursor } from "../../src/worker/outbox-cursor.ts";
import { type TestOutbox, testOutbox } from "../support/outbox.ts";
import { connect, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

/** The least that the API allows. */
const MAX_BYTES = 16 * 2 ** 20;

/** About a fifth of MAX_BYTES: 4,000 rows of 800 bytes. */
async function write(client: pg.Client, from: number, count = 4000): Promise<void> {
  await client.query(
    "insert into orders select i, repeat('x', 700) from generate_series($1::integer, $1::integer + $2::integer - 1) as i",
    [from, count],
  );
}

/** Writes until the outbox is over the limit, with rounds in between as workers make them. */
async function fill(outbox: TestOutbox, onLimit: "Alert" | "DropOldest" | "Pause", parts = 6) {
  const reports = [];
  for (let part = 0; part < parts; part += 1) {
    await write(outbox.client, 1 + part * 4000);
    reports.push(await outbox.keep({ maxBytes: MAX_BYTES, onLimit }));
  }
  return reports;
}

describe("Alert", () => {
  test("touches nothing, and says which callback holds the outbox back", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    const reports = await fill(outbox, "Alert");
    const last = reports.at(-1);
    assert.equal(last?.reached, "Bytes");
    assert.ok((last?.backlog.bytes ?? 0) > MAX_BYTES);
    assert.deepEqual(await outbox.events(), { 0: 24_000 });
    await outbox.catchUp("orders");
    const { backlog } = await outbox.keep({ maxBytes: MAX_BYTES });
    const [audit, orders] = backlog.callbacks;
    assert.ok((audit?.oldestAgeSeconds ?? 0) > 0, "audit has got nothing yet");
    assert.equal(orders?.oldestAgeSeconds, 0);
    await outbox.client.query("update pgevents.outbox set at = at - interval '10 minutes' where segment = 0");
    assert.equal((await outbox.keep({ maxAgeSeconds: 300 })).reached, "Age");
  });
});

describe("DropOldest", () => {
  test("keeps the outbox below the limit, counts what each callback lost, and gives the rest to it", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    await write(outbox.client, 900_000, 100);
    await outbox.catchUp("orders");
    const reports = await fill(outbox, "DropOldest");
    for (const { backlog, reached } of reports) {
      assert.equal(reached, null);
      assert.ok(backlog.bytes <= MAX_BYTES, `${backlog.bytes} bytes`);
    }
    const lost = await readDeliveryStatus(outbox.client, outbox.names, ["audit", "orders"]);
    const kept = Object.values(await outbox.events()).reduce((sum, count) => sum + count, 0);
    const [audit, orders] = lost;
    assert.equal(audit?.lostEvents, 24_100 - kept);
    assert.equal(orders?.lostEvents, 24_000 - kept, "what it had is not lost");
    assert.ok(kept > 8000 && kept < 20_000, `${kept} rows are left`);
    const dropped = reports
      .flatMap((report) => report.dropped)
      .filter(({ callback }) => callback === "audit");
    assert.equal(
      dropped.reduce((sum, { events }) => sum + events, 0),
      audit?.lostEvents,
    );
    const { rows } = await outbox.client.query(
      "select sum(events)::integer as events, bool_and(started_at <= ended_at and reached = 'Bytes') as fine from pgevents.loss where callback = 'audit' and kind = 'Dropped'",
    );
    assert.deepEqual(rows, [{ events: audit?.lostEvents, fine: true }]);
    assert.notEqual((await readLosses(outbox.client, outbox.names)).lostAt, null);
    assert.equal(audit?.pending, 10_000 > kept ? kept : audit?.pending);
  });

  test("a window whose rows vanish under a reader is read to its end", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    const pool = createPool(database.settings, "worker", 2);
    t.after(() => pool.end());
    const { rows } = await outbox.client.query(
      "select seen::text from pgevents.callback where name = 'audit'",
    );
    const cursor = new OutboxCursor(new OutboxReader(pool, outbox.names), {
      seen: rows[0]?.seen,
      ahead: null,
      aheadId: null,
    });
    await write(outbox.client, 1);
    const first = await cursor.read();
    assert.equal(first?.rows.length, 1000);
    await outbox.age("1 hour");
    await outbox.keep();
    await write(outbox.client, 50_001, 10);
    await outbox.client.query("update pgevents.outbox set at = at - interval '1 hour' where segment = 0");
    await outbox.age("1 hour");
    const { dropped, reached } = await outbox.keep({ maxAgeSeconds: 300, onLimit: "DropOldest" });
    assert.deepEqual(dropped, [
      { callback: "audit", events: 4000 },
      { callback: "orders", events: 4000 },
    ]);
    assert.equal(reached, null);
    const ids: unknown[] = [];
    for (let reads = 0; reads < 20 && ids.length < 10; reads += 1) {
      const read = await cursor.read();
      ids.push(...(read?.rows ?? []).map(({ event }) => event.key));
    }
    assert.deepEqual(
      ids,
      Array.from({ length: 10 }, (_, index) => `[${50_001 + index}]`),
    );
  });

  test("G1 what every callback has goes before what one of them lacks, before its retention is over", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    const day = 86_400;
    const limits = { maxBytes: MAX_BYTES, onLimit: "DropOldest" as const };
    for (let part = 0; part < 8; part += 1) {
      await write(outbox.client, 1 + part * 4000);
      await outbox.catchUp("audit");
      await outbox.catchUp("orders");
      const { dropped, reached } = await outbox.keep(limits, day);
      assert.deepEqual([dropped, reached], [[], null]);
    }
    const kept = await outbox.events();
    assert.ok(Object.keys(kept).length >= 2, "and no more of it than has to");
  });

  test("G3 two workers that do it at once, beside a writer, lose and count the same once", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    await fill(outbox, "Alert", 1);
    await outbox.age("1 hour");
    await outbox.keep();
    await outbox.age("1 hour");
    await outbox.client.query("update pgevents.outbox set at = at - interval '1 hour' where segment = 0");
    const others = await Promise.all([connect(t, database.url), connect(t, database.url)]);
    const writer = await connect(t, database.url);
    await writer.query("begin; insert into orders values (900001)");
    const capture = { ...outbox.capture, backlog: { maxAgeSeconds: 300, onLimit: "DropOldest" as const } };
    const reports = await Promise.all(others.map((client) => keepOutbox(client, outbox.names, capture)));
    await writer.query("insert into orders values (900002); commit");
    const dropped = reports.flatMap((report) => report.dropped);
    assert.deepEqual(dropped.map(({ callback, events }) => `${callback} ${events}`).sort(), [
      "audit 4000",
      "orders 4000",
    ]);
    const [audit] = await readDeliveryStatus(outbox.client, outbox.names, ["audit"]);
    assert.deepEqual([audit?.lostEvents, audit?.pending], [4000, 2]);
  });
});

describe("Pause", () => {
  test("writers go on, nothing is captured until the outbox is down to half, and the gap is told", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    const { client, names } = outbox;
    const limits = { maxBytes: MAX_BYTES, onLimit: "Pause" as const };
    const reports = await fill(outbox, "Pause");
    assert.deepEqual(
      reports.flatMap((report) => report.capture ?? []),
      ["Paused"],
    );
    const counts = Object.values(await outbox.events());
    assert.ok(counts.reduce((sum, count) => sum + count, 0) <= 24_000);
    const before = await outbox.events();
    await client.query("create table parts (id integer) partition by range (id)");
    await client.query("create table parts_1 partition of parts for values from (0) to (10)");
    await outbox.build();
    await write(client, 100_001, 10);
    await client.query("update orders set note = 'y' where id <= 5; delete from orders where id <= 3");
    await client.query("insert into parts values (1); update parts set id = 2; delete from parts");
    await client.query("truncate parts");
    await client.query("alter table orders add column more integer");
    const { rows: inside } = await client.query(
      "select sum(count)::integer as count from (select count(*) from pgevents.change_events()) as c",
    );
    assert.equal(
      inside[0]?.count,
      Object.values(before).reduce((sum, count) => sum + count, 0),
      "nothing was captured",
    );
    assert.notEqual((await readLosses(client, names)).pausedSince, null);
    const changes = "select pgevents.captured_changes() - events >= 21 as known from pgevents.loss";
    await eventually(async () => (await client.query(changes)).rows[0]?.known, { what: "the statistics" });
    // One callback of two is not enough.
    await outbox.catchUp("orders");
    assert.equal((await outbox.keep(limits, 86_400)).capture, null);
    await outbox.catchUp("audit");
    const resumed = await outbox.keep(limits, 86_400);
    assert.equal(resumed.capture, "Resumed");
    assert.ok(
      resumed.backlog.bytes <= MAX_BYTES / 2,
      "what every callback has went before its retention was over",
    );
    await write(client, 200_001, 7);
    const { rows: after } = await client.query(
      "select count(*)::integer as count from pgevents.change_events() where key in (select format('[%s]', i) from generate_series(200001, 200007) as i)",
    );
    assert.equal(after[0]?.count, 7);
    const { rows: gaps } = await client.query(
      "select kind, reached, callback, started_at < ended_at as closed, events from pgevents.loss",
    );
    const events = Number(gaps[0]?.events);
    assert.ok(events >= 21, `${events} changes by the statistics`);
    assert.deepEqual(
      { ...gaps[0], events: 0 },
      { kind: "Paused", reached: "Bytes", callback: null, closed: true, events: 0 },
    );
    const { pausedSince, lostAt } = await readLosses(client, names);
    assert.equal(pausedSince, null);
    assert.notEqual(lostAt, null);
  });

  test("ends when the spec does not want it any more; what a rollback left astray is put right", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const outbox = await testOutbox(t, database.url);
    const { client } = outbox;
    await fill(outbox, "Pause");
    await client.query("select setval('pgevents.outbox_segment', 2)"); // a crash between the two
    assert.equal((await outbox.keep({ maxBytes: MAX_BYTES, onLimit: "Pause" })).capture, null);
    const point = async () =>
      (await client.query("select last_value from pgevents.outbox_segment")).rows[0]?.last_value;
    assert.equal(await point(), "-1");
    assert.equal((await outbox.keep({ maxBytes: MAX_BYTES })).capture, "Resumed");
    const { rows } = await client.query(
      "select number::text from pgevents.segment where opened_at is not null and closed_at is null",
    );
    assert.equal(await point(), rows[0]?.number);
  });
});
