/** How events are laid ready to be delivered again, and who may take them (sql/functions_replay.sql). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { eventFilter, wantedEvents } from "../../src/core/delivery/filter.ts";
import { ALL_LANES } from "../../src/core/delivery/lanes.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { redeliverDeadLetters, storeDeadLetter } from "../../src/postgres/dead-letters.ts";
import { readDeliveryStatus } from "../../src/postgres/delivery-status.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { cancelReplay, listReplays, type ReplayRequest, requestReplay } from "../../src/postgres/replay.ts";
import { changeEvent } from "../support/change-event.ts";
import { source } from "../support/crd-cases.ts";
import { testOutbox } from "../support/outbox.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";

const EVERY = { tables: null, operations: null, schemaChanges: "Exclude" } as const;

async function scene(t: TestEnd) {
  const database = await testDatabase(t, { owner: true });
  const outbox = await testOutbox(t, database.url);
  const pool = createPool(database.settings, "worker", 2);
  t.after(() => pool.end());
  const { client, names } = outbox;
  await client.query(
    "update pgevents.callback set holder = 'me', term = 3, expires_at = now() + interval '1 hour'",
  );
  const lease = { parts: [0], terms: ["3"], lanes: ALL_LANES };
  const reader = new OutboxReader(pool, names);
  return {
    ...outbox,
    pool,
    request: (changes: Partial<ReplayRequest> = {}) =>
      requestReplay(
        client,
        names,
        {
          callback: "orders",
          from: { kind: "Id", id: "1" },
          until: null,
          untilId: null,
          tables: null,
          available: false,
          ...changes,
        },
        EVERY,
        "apply",
      ),
    feed: async (room = 1000) => {
      const { rows } = await client.query("select pgevents.feed_replay('orders', $1, $2) as there", [
        JSON.stringify(EVERY),
        room,
      ]);
      return rows[0]?.there;
    },
    take: async (changes: Partial<typeof lease> = {}, limit = 1000) =>
      (await reader.takeParked("orders", { ...lease, ...changes }, limit)).map(({ event }) => event),
    done: (ids: readonly string[]) =>
      client.query(
        "select pgevents.forget_parked('orders', $1::bigint[], array_fill(''::text, array[cardinality($1::bigint[])]))",
        [ids],
      ),
  };
}

test("a replay brings what the callback had, in slices, and what concerns several rows alone", async (t) => {
  const { client, catchUp, request, feed, take, done, names } = await scene(t);
  await client.query("insert into orders select i, 'x' from generate_series(1, 5) as i");
  await client.query("update orders set id = 15 where id = 5");
  await client.query("insert into orders values (6)");
  await client.query("truncate orders");
  await client.query("insert into orders values (7)");
  await catchUp("orders");
  await client.query("insert into orders values (8)"); // comes by itself
  const plan = await request();
  assert.deepEqual([plan.events, plan.exact, plan.gone], [9, true, false]);
  const rounds: string[][] = [];
  while ((await feed(3)) === true) {
    const events = await take();
    rounds.push(events.map(({ operation, key }) => `${operation} ${key}`));
    assert.ok(events.every(({ resent }) => resent?.replay === 1 && resent.letter === null));
    await feed(3);
    assert.deepEqual(await take(), [], "no more than fits, and nothing beside what goes alone");
    await done(events.map(({ id }) => id));
  }
  assert.deepEqual(
    rounds.filter((round) => round.length > 0),
    [
      ["Insert [1]", "Insert [2]", "Insert [3]"],
      ["Insert [4]", "Insert [5]"],
      ["Update [15]"],
      ["Insert [6]"],
      ["Truncate null"],
      ["Insert [7]"],
    ],
  );
  const [replay] = await listReplays(client, names, null);
  assert.deepEqual([replay?.state, replay?.events, replay?.left], ["Done", 9, 0]);
});

test("only the holder of the lanes takes what lies ready, once; who cancels leaves what was taken", async (t) => {
  const { client, catchUp, request, feed, take, names, pool } = await scene(t);
  await client.query("insert into orders select i, 'x' from generate_series(1, 40) as i");
  await catchUp("orders");
  await request();
  await feed();
  assert.deepEqual(await take({ terms: ["2"] }), [], "a holder of before takes nothing");
  const half = await take({ lanes: 0xffff });
  const more = await take({}, 5);
  assert.ok(half.length > 0 && half.length < 40);
  assert.equal(more.length, 5);
  assert.equal(new Set([...half, ...more].map(({ id }) => id)).size, half.length + 5);
  const [status] = await readDeliveryStatus(pool, names, ["orders"]);
  assert.deepEqual([status?.parked, status?.resending], [0, 40]);
  assert.equal(await cancelReplay(client, names, "1"), true);
  assert.equal(await cancelReplay(client, names, "1"), false);
  assert.deepEqual(await take(), []);
  const [replay] = await listReplays(client, names, null);
  assert.deepEqual([replay?.state, replay?.left], ["Cancelled", half.length + 5]);
  assert.equal(await feed(), false);
});

test("a segment is kept while a replay has not read it; emptied, it is told that events are gone", async (t) => {
  const { client, catchUp, request, feed, take, done, keep, age, events: kept } = await scene(t);
  await client.query("insert into orders values (1, 'old')");
  await catchUp("orders");
  await catchUp("audit");
  const { rows: times } = await client.query<{ since: string }>(
    "select to_json(now() - interval '1 minute') #>> '{}' as since",
  );
  const from = { kind: "Time", since: times[0]?.since ?? "" } as const;
  await request({ from });
  await age("2 hours");
  await keep();
  await keep();
  assert.deepEqual(Object.values(await kept()), [1], "the replay needs it");
  await feed();
  await done((await take()).map(({ id }) => id));
  await feed();
  await keep();
  await keep();
  assert.deepEqual(await kept(), {});
  await client.query("insert into orders values (2, 'new')");
  await catchUp("orders");
  await assert.rejects(request({ from }), { code: "PGE_REPLAY_NOT_RETAINED" });
  await assert.rejects(request({ from: { kind: "Id", id: "1" } }), { code: "PGE_REPLAY_NOT_RETAINED" });
  const { events, gone } = await request({ from, available: true });
  assert.deepEqual([events, gone], [1, true]);
});

test("a replayed dead letter is one until it is delivered; one that is redelivered moves", async (t) => {
  const { client, catchUp, request, feed, take, done, names, pool } = await scene(t);
  await client.query("insert into orders values (1, 'x'), (2, 'y')");
  const { rows } = await client.query<{ id: string; xid: string }>(
    "select id::text, xid::text from pgevents.outbox order by id",
  );
  const bury = (index: number, forward: string | null = null) => {
    const { id = "", xid = "" } = rows[index] ?? {};
    return storeDeadLetter(pool, names, {
      callback: "orders",
      id,
      transactionId: xid,
      attempts: 2,
      error: "422: no",
      letterOf: "",
      forward,
    });
  };
  assert.equal(await bury(0), true);
  assert.equal(await bury(1, "audit"), true);
  await catchUp("orders");
  const letters = async () =>
    (await client.query("select id::text from pgevents.dead_letter order by id")).rows.map(({ id }) => id);
  await request({ untilId: rows[0]?.id ?? "" });
  await feed();
  const [replayed] = await take();
  assert.deepEqual(
    await letters(),
    rows.map(({ id }) => id),
  );
  await done([replayed?.id ?? ""]);
  assert.deepEqual(await letters(), [rows[1]?.id]);
  const filter = { callback: null, ids: null, table: null, error: null, since: null, until: null };
  assert.equal(await redeliverDeadLetters(client, names, filter), 1);
  assert.deepEqual(await letters(), []);
  assert.deepEqual(
    (await take()).map(({ id, resent }) => [id, resent]),
    [[rows[1]?.id, { replay: 0, letter: null }]],
  );
  const { rows: forwarded } = await client.query(
    "select id::text, letter_of, letter ->> 'error' as error, taken from pgevents.parked where callback = 'audit'",
  );
  assert.deepEqual(forwarded, [{ id: rows[1]?.id, letter_of: "orders", error: "422: no", taken: false }]);
});

test("the database and the worker agree on what a filter lets through", async (t) => {
  const { client } = await scene(t);
  const isWanted = async (...values: string[]): Promise<unknown> =>
    (await client.query('select pgevents.is_wanted($1, $2::"char", $3, $4) as wanted', values)).rows[0]
      ?.wanted;
  const tables = [
    { schema: "public", name: "orders" },
    { schema: "billing", name: "*" },
  ];
  const filters = [
    undefined,
    { tables },
    { operations: ["Insert", "Truncate"] },
    { schemaChanges: "Include" },
    { schemaChanges: "Only", tables },
    { operations: ["Delete"], tables, schemaChanges: "Include" },
    { deadLetters: "Only" },
  ];
  const letters = { Insert: "I", Update: "U", Delete: "D", Truncate: "T", SchemaChange: "S" } as const;
  for (const filter of filters) {
    for (const target of [{ http: { uri: "https://a/" } }, { module: { path: "/a.mjs" } }]) {
      const manifest = source({
        callbacks: [{ name: "a", ...target, ...(filter === undefined ? {} : { filter }) }],
      });
      const [spec] = parsePgEventSource(manifest, "the case").spec.callbacks;
      assert.ok(spec !== undefined);
      const { wants } = eventFilter(spec, assert.fail);
      for (const [operation, letter] of Object.entries(letters)) {
        for (const [schema, table] of [
          ["public", "orders"],
          ["public", "items"],
          ["billing", "items"],
        ] as const) {
          const event = changeEvent({ operation: operation as keyof typeof letters, schema, table });
          const told = await isWanted(JSON.stringify(wantedEvents(spec)), letter, schema, table);
          assert.equal(told, wants(event), JSON.stringify([filter, operation, schema, table]));
        }
      }
    }
  }
});
