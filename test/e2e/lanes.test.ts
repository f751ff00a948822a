/** Several workers share the lanes of a callback: real processes, which come, go, hang and lose their database. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startTraffic } from "../support/lane-traffic.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";
import { type CliProcess, eventually } from "../support/processes.ts";
import { type Receiver, type ReceiverOptions, startReceiver } from "../support/receiver.ts";
import { Replica, rowText } from "../support/replica.ts";
import { silentProxy } from "../support/silent-proxy.ts";

const TABLES = `
  create table orders (id integer primary key, note text);
  create table marks (id serial primary key)`;

/** Of a callback that is to go on failing, and not for long. */
const REFUSED = { delivery: { backoffSeconds: 1, maxBackoffSeconds: 2, attempts: 1000 } };

async function scene(t: TestEnd, changes: Record<string, unknown> = {}, options: ReceiverOptions = {}) {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t, options);
  await database.query(TABLES);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url, changes)] });
  await source.build();
  return { database, receiver, source };
}

/** Traffic that waits for the receiver: half of the statements change something at least. */
const trafficFor = (database: TestDatabase, receiver: Receiver, seed: number) =>
  startTraffic(database, seed, (statements) => receiver.waitFor(statements / 2 - 200, 60_000));

/** How many lanes each worker that is alive holds, in descending order; 32 of one when nothing is shared out. */
async function lanesOfEach(database: TestDatabase): Promise<number[]> {
  const { rows } = await database.query<{ lanes: number }>(`
    select sum(length(replace(lanes::bit(32)::text, '0', '')))::integer as lanes
    from (
      select holder, lanes, expires_at from pgevents.lease
      union all
      select holder, 4294967295, expires_at from pgevents.callback where holder is not null
    ) as held
    where holder is not null and expires_at > clock_timestamp()
    group by holder
    order by lanes desc`);
  return rows.map(({ lanes }) => lanes);
}

function untilShared(database: TestDatabase, expected: readonly number[]): Promise<unknown> {
  return eventually(
    async () => {
      assert.deepEqual(await lanesOfEach(database), expected);
      return true;
    },
    { timeoutMs: 40_000, what: `lanes shared out as ${expected.join(", ")}` },
  );
}

/** All changes have come, in an order that rebuilds the table. */
async function assertComplete(database: TestDatabase, receiver: Receiver): Promise<void> {
  const { rows } = await database.query<{ captured: number }>(
    "select count(*)::integer as captured from pgevents.logged(false) where operation <> 'S'",
  );
  const captured = rows[0]?.captured ?? 0;
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size >= captured, 60_000);
  const replica = new Replica();
  for (const event of receiver.events) replica.apply(event);
  assert.equal(replica.received, captured);
  const orders = await database.query<{ id: number; note: string | null }>("select id, note from orders");
  assert.deepEqual(
    replica.content("orders", ["id", "note"]),
    orders.rows.map((row) => rowText(row, ["id", "note"])).sort(),
  );
}

const keyOf = ({ data }: Receiver["events"][number]) => data.key?.[0];

const exitCodes = (workers: readonly CliProcess[]) =>
  Promise.all(workers.map(async ({ exited }) => (await exited).code));

test("G2 G5 lanes are shared out evenly when workers come and go, and nothing is delivered twice or out of order", async (t) => {
  const { database, receiver, source } = await scene(t);
  const workers = [await source.startWorker()];
  const traffic = trafficFor(database, receiver, 7);
  await untilShared(database, [32]);
  workers.push(await source.startWorker());
  await untilShared(database, [16, 16]);
  for (let more = 0; more < 3; more += 1) workers.push(await source.startWorker({ waitForRelay: false }));
  await untilShared(database, [7, 7, 6, 6, 6]);
  for (const worker of workers.slice(1)) worker.kill("SIGTERM");
  assert.deepEqual(await exitCodes(workers.slice(1)), [0, 0, 0, 0]);
  await untilShared(database, [32]);
  await eventually(async () => (await database.query("select from pgevents.lease")).rowCount === 0);
  await traffic.end();
  await assertComplete(database, receiver);
  assert.equal(receiver.duplicates, 0);
});

test("G1 G2 a worker that is killed, and one that hangs, are replaced within 15 seconds", async (t) => {
  const { database, receiver, source } = await scene(t);
  const [one, two, three] = [
    await source.startWorker(),
    await source.startWorker(),
    await source.startWorker(),
  ];
  await untilShared(database, [11, 11, 10]);
  const traffic = trafficFor(database, receiver, 8);
  await receiver.waitFor(200);
  one.kill("SIGKILL");
  const killedMs = performance.now();
  await untilShared(database, [16, 16]);
  assert.ok(performance.now() - killedMs < 15_000, `${performance.now() - killedMs} ms`);
  two.kill("SIGSTOP");
  const stoppedMs = performance.now();
  await untilShared(database, [32]);
  assert.ok(performance.now() - stoppedMs < 15_000, `${performance.now() - stoppedMs} ms`);
  two.kill("SIGCONT");
  await untilShared(database, [16, 16]);
  await traffic.end();
  await assertComplete(database, receiver);
  three.kill("SIGTERM");
  assert.deepEqual(await exitCodes([three]), [0]);
});

test("G1 G2 a worker that loses the database is replaced within 15 seconds, and shares again when it is back", async (t) => {
  const { database, receiver, source } = await scene(t);
  const proxy = await silentProxy(t, database.url);
  const cutOff = localSource(t, proxy, { callbacks: [callbackTo(receiver.url)] });
  const two = [await source.startWorker(), await cutOff.startWorker()][1];
  await untilShared(database, [16, 16]);
  const traffic = trafficFor(database, receiver, 9);
  await receiver.waitFor(200);
  proxy.freeze();
  const frozenMs = performance.now();
  await untilShared(database, [32]);
  assert.ok(performance.now() - frozenMs < 15_000, `${performance.now() - frozenMs} ms`);
  await two?.waitForLine(/"database does not answer, trying again"/);
  proxy.thaw();
  await untilShared(database, [16, 16]);
  await traffic.end();
  await assertComplete(database, receiver);
});

test("G1 G2 events that wait for lanes of a worker that is gone go on as soon as these are taken", async (t) => {
  const { database, receiver, source } = await scene(t);
  const [, two] = [await source.startWorker(), await source.startWorker()];
  await untilShared(database, [16, 16]);
  await database.query("insert into orders select id, '0' from generate_series(1, 60) as id");
  const behind = "select from pgevents.outbox, pgevents.lease where not pg_visible_in_snapshot(xid, seen)";
  await eventually(async () => (await database.query(behind)).rowCount === 0); // nothing is repeated when it is killed
  two.kill("SIGSTOP");
  // Most of these concern lanes of both workers; the other one goes on meanwhile with what comes after them.
  await database.query("update orders set id = id + 1000");
  await database.query("insert into orders select id, '1' from generate_series(1, 60) as id");
  await receiver.waitFor(80);
  two.kill("SIGKILL");
  const killedMs = performance.now();
  await assertComplete(database, receiver);
  assert.ok(performance.now() - killedMs < 10_000, `${performance.now() - killedMs} ms`);
  await untilShared(database, [32]);
  assert.equal(receiver.duplicates, 0);
});

test("G1 a worker that is behind walks through what concerns only the others without a pause", async (t) => {
  const { database, receiver, source } = await scene(t);
  const [, two] = [await source.startWorker(), await source.startWorker()];
  await untilShared(database, [16, 16]);
  two.kill("SIGSTOP");
  await database.query("insert into orders select id, '0' from generate_series(1, 60) as id");
  const others = await eventually(() => (receiver.events.length > 5 ? receiver.events.map(keyOf) : null));
  for (const key of others.slice(0, 5))
    for (let round = 1; round <= 10; round += 1) {
      const before = receiver.events.length;
      await database.query("update orders set note = $2 where id = $1", [key, String(round)]);
      await receiver.waitFor((events) => events.length > before); // so each is a window of its own
    }
  await database.query("update orders set note = 'last'");
  two.kill("SIGCONT");
  const awakeMs = performance.now();
  await assertComplete(database, receiver);
  assert.ok(performance.now() - awakeMs < 8000, `${performance.now() - awakeMs} ms`);
});

test("G1 G2 parked keys and what came after them survive a crash in order; the others go on meanwhile", async (t) => {
  let refuse = true;
  const { database, receiver, source } = await scene(t, REFUSED, {
    respond: ({ events }) => (refuse && events[0]?.subject.endsWith("/[1]") ? 500 : 204),
  });
  let worker = await source.startWorker();
  await database.query("insert into orders values (1, '0'), (2, '0')");
  const parked = async () =>
    (
      await database.query<{ ids: number[] | null }>(
        "select array_agg(id::integer order by id) as ids from pgevents.parked",
      )
    ).rows[0]?.ids ?? [];
  let round = 0;
  const write = async () => {
    round += 1;
    await database.query("update orders set note = $1", [String(round)]);
  };
  await eventually(async () => {
    await write(); // what succeeds shows that it is the key that fails
    return (await parked()).length > 1;
  });
  worker.kill("SIGKILL");
  await worker.exited;
  const before = await parked();
  worker = await source.startWorker();
  await write();
  await eventually(async () => (await parked()).length > before.length);
  await receiver.waitFor((events) =>
    events.some(({ data }) => data.new?.id === 2 && data.new.note === String(round)),
  );
  worker.kill("SIGKILL");
  await worker.exited;
  refuse = false;
  await source.startWorker();
  const notes = (id: number) => {
    const seen = new Set<string>();
    return receiver.events
      .filter((event) => event.data.new?.id === id && !seen.has(event.id) && seen.add(event.id))
      .map(({ data }) => Number(data.new?.note));
  };
  await receiver.waitFor(() => notes(1).length === round + 1 && notes(2).length === round + 1);
  const inOrder = Array.from({ length: round + 1 }, (_, index) => index);
  assert.deepEqual([notes(1), notes(2)], [inOrder, inOrder]);
  await eventually(async () => (await parked()).length === 0);
});

test("G2 what concerns lanes of several workers waits for what lies parked at another", async (t) => {
  let refuse = true;
  const { database, receiver, source } = await scene(t, REFUSED, {
    respond: ({ events }) => (refuse && events[0]?.data.new?.note === "refused" ? 500 : 204),
  });
  await Promise.all([source.startWorker(), source.startWorker({ waitForRelay: false })]);
  await untilShared(database, [16, 16]);
  await database.query("insert into orders select id, '0' from generate_series(1, 60) as id");
  const ofTheOther = await database.query(`
    update orders set note = 'refused'
    where id in (
      select id from orders
      where not exists (
        select from pgevents.lease
        where (lanes >> pgevents.lane_of('public', 'orders', format('[%s]', id))) & 1 = 1
          and (lanes >> pgevents.lane_of('public', 'orders', null)) & 1 = 1)
      limit 3)`);
  assert.equal(ofTheOther.rowCount, 3); // than the one who is to deliver the Truncate
  const marks = () => receiver.events.filter(({ data }) => data.relation.table === "marks").length;
  const mark = async () => {
    const before = marks();
    await database.query("insert into marks default values");
    await receiver.waitFor(() => marks() > before);
  };
  await eventually(async () => {
    await mark(); // what succeeds shows that it is the keys that fail
    return (await database.query("select from pgevents.parked")).rowCount === 3;
  });
  await database.query("truncate orders");
  for (let round = 0; round < 20; round += 1) await mark();
  refuse = false;
  await assertComplete(database, receiver);
  const wereRefused = receiver.events.map(({ data }) => data.new?.note === "refused");
  const truncated = receiver.events.findIndex(({ data }) => data.operation === "Truncate");
  assert.ok(wereRefused.lastIndexOf(true) < truncated);
});
