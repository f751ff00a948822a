import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type pg from "pg";
import { captureNames } from "../../src/core/capture/names.ts";
import { ALL_LANES } from "../../src/core/delivery/lanes.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { CallbackLeases, type Holder, type Lease } from "../../src/postgres/callback-lease.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { readDeliveryStatus } from "../../src/postgres/delivery-status.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { RelayStore } from "../../src/postgres/relay-store.ts";
import { OutboxCursor } from "../../src/worker/outbox-cursor.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { connect, type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";

const NAMES = captureNames("pgevents");
const START = { ahead: null, aheadId: null };

async function outbox(t: TestEnd): Promise<{ database: TestDatabase; pool: pg.Pool }> {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key)");
  const capture = captureSpec({ retentionSeconds: 0 });
  await buildCapture(
    database.settings,
    { capture, callbacks: ["a", "b"], owner: "manifest:default/test", version: "1" },
    { mode: "apply" },
  );
  const pool = createPool(database.settings, "worker", 4);
  t.after(() => pool.end());
  return { database, pool };
}

async function seenOf(database: TestDatabase): Promise<string> {
  const { rows } = await database.query("select seen::text from pgevents.callback where name = 'a'");
  return String(rows[0]?.seen);
}

/** Reads to the end, as a relay does; the ids of the rows in the order they came. */
async function readAll(cursor: OutboxCursor): Promise<number[]> {
  const ids: number[] = [];
  for (
    let read = await cursor.read();
    read !== null && (read.rows.length > 0 || !read.complete);
    read = await cursor.read()
  ) {
    ids.push(
      ...read.rows.map(({ event }) =>
        Number(event.new === null ? event.key?.slice(1, -1) : JSON.parse(event.new).id),
      ),
    );
  }
  return ids;
}

describe("reading the outbox", () => {
  test("G1 a window that is larger than one read is read in slices, with what committed late, each row once", async (t) => {
    const { database, pool } = await outbox(t);
    const cursor = new OutboxCursor(new OutboxReader(pool, NAMES), {
      seen: await seenOf(database),
      ...START,
    });
    const late = await connect(t, database.url);
    await late.query("begin; insert into orders values (0)");
    await database.query("insert into orders select i from generate_series(1, 2500) as i");
    const first = await readAll(cursor);
    assert.deepEqual(
      first,
      Array.from({ length: 2500 }, (_, index) => index + 1),
    );
    await database.query("insert into orders select i from generate_series(3001, 4500) as i");
    await late.query("commit");
    const second = await readAll(cursor);
    assert.equal(second[0], 0, "the late row has the lowest id");
    assert.deepEqual(
      second.slice(1),
      Array.from({ length: 1500 }, (_, index) => index + 3001),
    );
  });

  test("a window that was read half goes on where it was, and takes in nothing newer", async (t) => {
    const { database, pool } = await outbox(t);
    const seen = await seenOf(database);
    const reader = new OutboxReader(pool, NAMES);
    await database.query("insert into orders select i from generate_series(1, 3000) as i");
    const { snapshot, rows, complete } = await reader.readFresh(seen);
    assert.deepEqual([rows.length, complete], [1000, false]);
    await database.query("insert into orders values (9999)");
    const position = { seen, ahead: snapshot, aheadId: rows[499]?.event.id ?? "" };
    const cursor = new OutboxCursor(reader, position);
    const ids = await readAll(cursor);
    assert.deepEqual(ids, [...Array.from({ length: 2500 }, (_, index) => index + 501), 9999]);
  });

  test("a read costs what is new, however many rows are retained", async (t) => {
    const { database } = await outbox(t);
    await database.query("insert into orders select i from generate_series(1, 50000) as i");
    const { rows } = await database.query("select pg_current_snapshot()::text as seen");
    await database.query("insert into orders values (0)");
    const blocks = async () => {
      const explained = await database.query(
        "explain (analyze, buffers, format json) select id from pgevents.read_fresh($1, 100, 1000)",
        [rows[0]?.seen],
      );
      const plans = explained.rows[0]?.["QUERY PLAN"] as { Plan: Record<string, number> }[] | undefined;
      const plan = plans?.[0]?.Plan ?? {};
      assert.equal(plan["Actual Rows"], 1);
      return (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0);
    };
    await blocks(); // the first call in a session plans, and reads the catalog for that
    assert.ok((await blocks()) < 50, `${await blocks()} blocks; the 50,000 rows lie in about 1,000`);
  });
});

describe("leases", () => {
  test("G5 a lease has one holder; an older term writes nothing; a holder whose session is gone is replaced at once", async (t) => {
    const { database, pool } = await outbox(t);
    const leases = new CallbackLeases(pool, NAMES);
    const session = await connect(t, database.url);
    const { rows } = await session.query<{ pid: number; started: string }>(
      "select pid, backend_start::text as started from pg_stat_activity where pid = pg_backend_pid()",
    );
    const alive = { pid: rows[0]?.pid ?? 0, startedAt: rows[0]?.started ?? "" };
    const one = { id: "one", session: alive, leaseSeconds: 60 };
    const two = { id: "two", session: null, leaseSeconds: 60 };
    const take = async (holder: typeof one | typeof two) => {
      const taken = await leases.take("a", 0, ALL_LANES, holder);
      return taken ? (await leases.held("a", holder.id))[0] : undefined;
    };
    await leases.announce(["a"], one);
    const first = await take(one);
    assert.ok(first !== undefined);
    assert.equal(await take(two), undefined);
    await session.end();
    let second = await take(two);
    while (second === undefined) second = await take(two); // the server notices the end of the session
    assert.equal(Number(second.term), Number(first.term) + 1);
    const store = (lease: Lease) => new RelayStore(pool, NAMES, new OutboxReader(pool, NAMES), [lease]);
    const position = { ...first.position, ahead: null, aheadId: null };
    const later = { ...position, seen: "999999:999999:" };
    assert.equal(await store(first).checkpoint(later, null, [first], []), false);
    assert.deepEqual(await leases.renew([first], one), []);
    assert.equal(await store(second).checkpoint(position, null, [second], []), true);
    await leases.release(second);
    assert.ok((await take(one)) !== undefined);
  });

  test("G5 who decides by what he saw before his lanes changed gives nothing away, and takes nothing", async (t) => {
    const { pool } = await outbox(t);
    const leases = new CallbackLeases(pool, NAMES);
    const [one, two] = ["one", "two"].map((id) => ({ id, session: null, leaseSeconds: 60 })) as [
      Holder,
      Holder,
    ];
    assert.equal(await leases.take("a", 0, ALL_LANES, one), true);
    await leases.give((await leases.held("a", one.id))[0] as Lease, 0x0000_ffff);
    assert.equal(await leases.take("a", 2, 0x0000_ffff, two), true);
    const parts = async () => (await leases.look(["a"])).get("a")?.parts;
    const shared = [
      { part: 1, lanes: 0xffff_0000, holder: "one" },
      { part: 2, lanes: 0x0000_ffff, holder: "two" },
    ];
    assert.deepEqual(await parts(), shared);
    const [held] = await leases.held("a", one.id);
    await leases.give(held as Lease, 0x00ff_ff00);
    assert.equal(await leases.take("a", 0, 0xff00_0000, two), false);
    assert.equal(await leases.take("a", 1, 0x0000_00ff, one), false);
    assert.deepEqual(await parts(), shared);
  });
});

describe("delivery status", () => {
  test("counts what a callback has before it, and its dead letters", async (t) => {
    const { database, pool } = await outbox(t);
    await database.query("insert into orders values (1), (2), (3)");
    const [status] = await readDeliveryStatus(pool, NAMES, ["a"]);
    assert.deepEqual(
      [status?.pending, status?.deadLetters, status?.held, status?.state],
      [3, 0, false, "Waiting"],
    );
    await database.query(
      "update pgevents.callback set ahead = pg_current_snapshot(), ahead_id = (select min(id) from pgevents.outbox) where name = 'a'",
    );
    assert.equal((await readDeliveryStatus(pool, NAMES, ["a"]))[0]?.pending, 2);
    await database.query(
      "update pgevents.callback set seen = pg_current_snapshot(), ahead = null, ahead_id = null where name = 'a'",
    );
    assert.equal((await readDeliveryStatus(pool, NAMES, ["a"]))[0]?.pending, 0);
  });
});
