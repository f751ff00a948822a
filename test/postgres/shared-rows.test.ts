/** Of events that share a row of the outbox, each is what the others are not: a dead letter, parked, pending, lost. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type pg from "pg";
import { captureNames } from "../../src/core/capture/names.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { storeDeadLetter } from "../../src/postgres/dead-letters.ts";
import { readDeliveryStatus } from "../../src/postgres/delivery-status.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { requestReplay } from "../../src/postgres/replay.ts";
import { captured } from "../support/capture-scene.ts";
import { connect, type TestEnd } from "../support/postgres.ts";

const NAMES = captureNames("pgevents");
const ORDERS = "create table orders (id integer primary key, n integer, note text)";

describe("of events that share a row", () => {
  async function scene(t: TestEnd) {
    const one = await captured(t, ORDERS);
    await one.query("insert into orders select i, i, 'a' from generate_series(1, 1000) as i");
    const events = await one.told();
    const pool = createPool(one.settings, "worker", 1);
    t.after(() => pool.end());
    return { ...one, events, pool, reader: new OutboxReader(pool, NAMES) };
  }

  test("one is a dead letter, or parked, by itself", async (t) => {
    const { query, events, pool, reader } = await scene(t);
    await query("update pgevents.callback set holder = 'me', term = 3");
    const [refused, parked] = [events[499], events[700]];
    assert.ok(refused !== undefined && parked !== undefined);
    const { id, transactionId } = refused;
    const letter = {
      callback: "a",
      id,
      transactionId,
      attempts: 1,
      error: "no",
      letterOf: "",
      forward: null,
    };
    assert.equal(await storeDeadLetter(pool, NAMES, letter), true);
    assert.deepEqual(
      (await reader.readDeadLetters("a", [id])).map((event) => [event.key, event.new]),
      [[refused.key, refused.new]],
    );
    const { rows } = await query(
      "select pgevents.park_events('a', '{0}', '{3}', $1, $2, '{1}', '{no}') as ids",
      [[parked.transactionId], [parked.id]],
    );
    assert.deepEqual(rows, [{ ids: [parked.id] }]);
    const again = await reader.readParked("a", parked.id);
    assert.deepEqual([again?.key, again?.new], [parked.key, parked.new]);
  });

  for (const [what, change, left] of [
    ["moved", "update pgevents.outbox set at = at", 1000],
    ["dropped", "truncate pgevents.outbox_0", 0],
  ] as const)
    test(`those come whose row was ${what} while it was read: ${left} of 1000`, async (t) => {
      const { query, pool, events } = await scene(t);
      let changed = 0;
      const changing = new Proxy(pool, {
        get: (target, name) =>
          name !== "query"
            ? Reflect.get(target, name)
            : async (config: pg.QueryConfig) => {
                if (config.name === "pgevents_shared" && changed++ === 0) await query(change);
                return target.query(config);
              },
      });
      const { rows } = await new OutboxReader(changing, NAMES).readFresh("3:3:");
      assert.ok(changed > 0);
      const inserts = rows.filter(({ event }) => event.operation === "Insert");
      assert.ok(inserts.every(({ event, bytes }) => bytes === Buffer.byteLength(event.new ?? "")));
      assert.deepEqual(
        inserts.map(({ event }) => event.new),
        events.slice(0, left).map((event) => event.new),
      );
    });

  test("those are pending, replayed and lost that were not delivered, were, or are gone: none more", async (t) => {
    const { query, events, pool, url } = await scene(t);
    const [fresh] = await readDeliveryStatus(pool, NAMES, ["a"]);
    assert.equal(fresh?.pending, 1000);
    await query("update pgevents.callback set seen = '3:3:', ahead = pg_current_snapshot(), ahead_id = $1", [
      events[599]?.id,
    ]);
    const [status] = await readDeliveryStatus(pool, NAMES, ["a"]);
    assert.equal(status?.pending, 400);
    const { rows } = await query<{ events: number; needed: boolean }>(
      "select events::integer, pgevents.segment_is_needed(0::smallint) as needed from pgevents.unread_in_segment(0::smallint, 10000)",
    );
    assert.deepEqual(rows, [{ events: 400, needed: true }]);

    const client = await connect(t, url);
    const plan = await requestReplay(
      client,
      NAMES,
      {
        callback: "a",
        from: { kind: "Id", id: events[349]?.id ?? "" },
        until: null,
        untilId: null,
        tables: null,
        available: false,
      },
      { tables: null, operations: null, schemaChanges: "Exclude" },
      "apply",
    );
    assert.deepEqual([plan.events, plan.exact], [251, true]);
    const laid: unknown[] = [];
    for (let there = true; there; ) {
      there = (await client.query("select pgevents.feed_replay('a', null, 100) as there")).rows[0]?.there;
      const { rows: some } = await client.query(
        `with taken as (delete from pgevents.parked where replay = 1 returning *)
        select id::text, key, new from taken order by taken.id`,
      );
      assert.ok(some.length <= 100);
      laid.push(...some);
    }
    assert.deepEqual(
      laid,
      events.slice(349, 600).map(({ id, key, new: now }) => ({ id, key, new: now })),
    );
  });
});
