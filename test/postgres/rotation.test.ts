/** Rotation: when a segment is emptied, and what old snapshots elsewhere do to it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keepOutbox } from "../../src/postgres/backlog.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { readDeliveryStatus } from "../../src/postgres/delivery-status.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { OutboxCursor } from "../../src/worker/outbox-cursor.ts";
import { type TestOutbox, testOutbox } from "../support/outbox.ts";
import {
  connect,
  type TestDatabase,
  type TestDatabaseOptions,
  type TestEnd,
  testDatabase,
  twoPhaseServer,
} from "../support/postgres.ts";

async function databaseWithOutbox(
  t: TestEnd,
  where: TestDatabaseOptions = {},
): Promise<{ database: TestDatabase; outbox: TestOutbox }> {
  const database = await testDatabase(t, { owner: true, ...where });
  return { database, outbox: await testOutbox(t, database.url) };
}

async function insert({ client }: TestOutbox, from: number, count: number): Promise<void> {
  await client.query(
    "insert into orders select i, repeat('x', 300) from generate_series($1::integer, $1::integer + $2::integer - 1) as i",
    [from, count],
  );
}

describe("rotation", () => {
  test("a segment is emptied once every callback has its rows, not before; writers go on elsewhere", async (t) => {
    const { database, outbox } = await databaseWithOutbox(t);
    await insert(outbox, 1, 1);
    await outbox.age("1 hour");
    const first = await outbox.keep();
    assert.deepEqual([first.opened, first.emptied], [1, []]);
    await insert(outbox, 2, 1);
    assert.deepEqual(await outbox.events(), { 0: 1, 1: 1 });
    await outbox.catchUp("audit");
    assert.deepEqual((await outbox.keep()).emptied, [], "orders has not got it");
    await outbox.catchUp("orders");
    assert.deepEqual((await outbox.keep({}, 3600)).emptied, [], "the retention is not over");
    const writer = await connect(t, database.url);
    await writer.query("begin; insert into orders values (3)");
    assert.deepEqual((await outbox.keep()).emptied, [0]);
    await writer.query("commit");
    assert.deepEqual(await outbox.events(), { 1: 2 });
  });

  test("a callback that is in the middle of a window keeps the segments of its rest, and only those", async (t) => {
    const { outbox } = await databaseWithOutbox(t);
    await outbox.catchUp("audit");
    await insert(outbox, 1, 100);
    await outbox.age("1 hour");
    await outbox.keep();
    await insert(outbox, 101, 100);
    await outbox.catchUp("orders");
    const window =
      "update pgevents.callback set ahead = pg_current_snapshot(), ahead_id = $1 where name = 'audit'";
    await outbox.client.query(window, [99]);
    assert.deepEqual((await outbox.keep()).emptied, [], "of segment 0 one is left");
    await outbox.client.query(window, [100]);
    assert.deepEqual((await outbox.keep()).emptied, [0]);
    const [audit] = await readDeliveryStatus(outbox.client, outbox.names, ["audit"]);
    assert.equal(audit?.pending, 100);
  });

  test("a callback that is stopped stands out: how many events it holds, and how old", async (t) => {
    const { outbox } = await databaseWithOutbox(t);
    await insert(outbox, 1, 12_345);
    await outbox.catchUp("orders");
    await outbox.client.query("update pgevents.outbox set at = at - interval '2 hours' where id <= 3000");
    const [audit, orders] = await readDeliveryStatus(outbox.client, outbox.names, ["audit", "orders"]);
    assert.ok((audit?.pending ?? 0) >= 12_000, `${audit?.pending}`);
    assert.ok((audit?.oldestAgeSeconds ?? 0) >= 7200);
    assert.deepEqual([orders?.pending, orders?.oldestAgeSeconds], [0, 0]);
  });

  test("a held xmin horizon, of an old snapshot and of a prepared transaction, neither stops it nor bloats", async (t) => {
    const { database, outbox } = await databaseWithOutbox(t, { server: await twoPhaseServer(t) });
    const old = await connect(t, database.url);
    await old.query("begin isolation level repeatable read; select count(*) from orders");
    await outbox.client.query(
      `begin; insert into orders values (-1); prepare transaction '${database.name}'`,
    );
    // It wrote to segment 0, which is kept for it until it ends; the others are enough.
    const bytes: number[] = [];
    try {
      for (let round = 0; round < 8; round += 1) {
        await outbox.age("1 hour");
        await insert(outbox, 1 + round * 5000, 5000);
        await outbox.catchUp("audit");
        await outbox.catchUp("orders");
        const { opened, emptied, backlog } = await outbox.keep();
        assert.ok(opened !== null || emptied.length > 0, `round ${round}`);
        bytes.push(backlog.bytes);
      }
    } finally {
      await outbox.client.query(`rollback prepared '${database.name}'`);
    }
    assert.ok(Math.max(...bytes.slice(2)) < 2.5 * (bytes[0] ?? 0), `${bytes}`);
  });

  test("checkpoints under a held xmin horizon do not bloat the table of callbacks", async (t) => {
    const { database, outbox } = await databaseWithOutbox(t);
    const old = await connect(t, database.url);
    await old.query("begin isolation level repeatable read; select count(*) from orders");
    const size = async () =>
      Number(
        (await outbox.client.query("select pg_relation_size('pgevents.callback') as size")).rows[0]?.size,
      );
    await outbox.client.query(`do $$ begin for i in 1..3000 loop
      update pgevents.callback set last_error = (select string_agg(md5(i::text || j), '') from generate_series(1, 50) as j)
      where name = 'orders'; end loop; end $$`);
    const row =
      "select name, seen::text, last_error, lost_events, created_at from pgevents.callback order by name";
    const before = (await outbox.client.query(row)).rows;
    assert.ok((await size()) > 4 * 2 ** 20, `${await size()} bytes`);
    const dump = await connect(t, `${database.url}?application_name=pg_dump`);
    await dump.query("set application_name = 'pg_dump'");
    await outbox.keep();
    assert.ok((await size()) > 4 * 2 ** 20, "not beside a dump, which would find the table empty");
    await dump.end();
    await outbox.keep();
    assert.ok((await size()) <= 16_384, `${await size()} bytes`);
    assert.deepEqual((await outbox.client.query(row)).rows, before);
  });
});

describe("TRUNCATE and old snapshots", () => {
  test("G1 rows that an old snapshot does not find any more were behind every position", async (t) => {
    const { database, outbox } = await databaseWithOutbox(t);
    await insert(outbox, 1, 10);
    const { rows: start } = await outbox.client.query("select seen::text from pgevents.callback limit 1");
    await outbox.catchUp("audit");
    await outbox.catchUp("orders");
    await outbox.age("1 hour");
    const old = await connect(t, database.url);
    await outbox.keep();
    await insert(outbox, 11, 5);
    await old.query("begin isolation level repeatable read; select count(*) from orders");
    assert.deepEqual((await outbox.keep()).emptied, [0]);
    const read = async (seen: unknown) =>
      (await old.query("select key from pgevents.read_fresh($1, 100, 100) where id is not null", [seen])).rows
        .length;
    const { rows: stored } = await outbox.client.query("select seen::text from pgevents.callback");
    assert.equal(
      await read(start[0]?.seen),
      5,
      "TRUNCATE hides the ten from a snapshot in which they are there",
    );
    for (const { seen } of stored) assert.equal(await read(seen), 5, "and no callback looks for them");
  });

  test("G1 a reader whose every statement has an old snapshot loses nothing while segments come and go", async (t) => {
    const { database, outbox } = await databaseWithOutbox(t);
    const superuser = await connect(t, database.superuserUrl);
    await superuser.query(
      `alter role ${database.name} set default_transaction_isolation = 'repeatable read'`,
    );
    const pool = createPool(database.settings, "worker", 2);
    t.after(() => pool.end());
    const keeper = await connect(t, database.url);
    const level = await keeper.query("show transaction_isolation");
    assert.equal(level.rows[0]?.transaction_isolation, "repeatable read");
    await outbox.catchUp("audit");
    await superuser.query("delete from pgevents.callback where name = 'audit'");
    const { rows } = await outbox.client.query("select seen::text from pgevents.callback");
    const cursor = new OutboxCursor(new OutboxReader(pool, outbox.names), {
      seen: rows[0]?.seen,
      ahead: null,
      aheadId: null,
    });
    const keys = new Set<string | null>();
    let emptied = 0;
    const readOn = async () => {
      const read = await cursor.read();
      for (const { event } of read?.rows ?? []) keys.add(event.key);
      if (read?.complete === true)
        await pool.query("update pgevents.callback set seen = $1", [read.snapshot]);
    };
    for (let round = 0; round < 60; round += 1) {
      await outbox.age("1 hour");
      const kept = keepOutbox(keeper, outbox.names, outbox.capture);
      await Promise.all([insert(outbox, 1 + round * 20, 20), kept, readOn()]);
      emptied += (await kept).emptied.length;
    }
    for (let reads = 0; keys.size < 1200 && reads < 10; reads += 1) await readOn();
    assert.equal(keys.size, 1200);
    assert.ok(emptied >= 10, `${emptied} segments were emptied`);
  });
});
