/** Dead letters and replays with real commands and workers: delivered again, marked, in order, through crashes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, type LocalSource, localSource } from "../support/local-source.ts";
import { type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually, runCli } from "../support/processes.ts";
import {
  type Answer,
  type ReceivedEvent,
  type ReceivedRequest,
  type Receiver,
  startReceiver,
} from "../support/receiver.ts";

const TABLE = "create table orders (id integer primary key, note text)";
const FAST = { backoffSeconds: 1, maxBackoffSeconds: 1 };

interface Scene {
  readonly database: TestDatabase;
  readonly receiver: Receiver;
  readonly source: LocalSource;
  /** Answers that are not 204. */
  answer: (request: ReceivedRequest) => Answer;
  /** Runs a command with the source's manifest; fails the test when it does. */
  run(...words: string[]): Promise<string>;
  tryRun(...words: string[]): Promise<{ code: number | null; stdout: string; stderr: string }>;
}

async function scene(t: TestEnd, callbacks?: (url: string) => Record<string, unknown>[]): Promise<Scene> {
  const database = await testDatabase(t, { owner: true });
  const made: { answer: (request: ReceivedRequest) => Answer } = { answer: () => 204 };
  const receiver = await startReceiver(t, { respond: (request) => made.answer(request) });
  await database.query(TABLE);
  const spec = { callbacks: callbacks?.(receiver.url) ?? [callbackTo(receiver.url, { delivery: FAST })] };
  const source = localSource(t, database, spec);
  await source.build();
  const env = { PG_EVENTS_DATABASE_URL: database.url };
  const tryRun = (...words: string[]) => runCli(t, [...words, "--manifest", source.manifest], { env });
  return Object.assign(made, {
    database,
    receiver,
    source,
    tryRun,
    run: async (...words: string[]) => {
      const { code, stdout, stderr } = await tryRun(...words);
      assert.equal(code, 0, `${words.join(" ")}: ${stdout}${stderr}`);
      return stdout;
    },
  });
}

const noteOf = (request: ReceivedRequest) => String(request.events[0]?.data.new?.note);
const isMarked = ({ headers }: ReceivedRequest) => headers["ce-pgeventsreplay"] === "true";
const rowCount = async (database: TestDatabase, table: string) =>
  Number((await database.query(`select count(*) from pgevents.${table}`)).rows[0]?.count);

test("G1 dead letters are listed without their rows, shown, delivered again with a mark, and discarded", async (t) => {
  const shop = await scene(t);
  const { database, receiver, source, run, tryRun } = shop;
  shop.answer = (request) => (noteOf(request).startsWith("bad") ? 422 : 204);
  await source.startWorker();
  await database.query("insert into orders values (1, 'bad-4711'), (2, 'good'), (3, 'bad-4712')");
  await eventually(async () => (await rowCount(database, "dead_letter")) === 2);
  const list = await run("dead-letters", "list");
  assert.match(list, /^ID +CALLBACK +OPERATION +TABLE +KEY +ATTEMPTS +FAILED AT +ERROR\n/);
  assert.match(list, /orders +Insert +public\.orders +\[3\] +1 .* 422: the receiver refuses the event/);
  assert.doesNotMatch(list, /471/);
  const page = async (...flags: string[]) =>
    JSON.parse(await run("dead-letters", "list", "--limit", "1", "-o", "json", ...flags));
  const newest = await page();
  const oldest = await page("--page", newest.next);
  assert.deepEqual(
    [newest, oldest].map(({ deadLetters }) => deadLetters.map(({ key }: { key: string }) => key)).sort(),
    [["[1]"], ["[3]"]],
  );
  assert.equal(oldest.next, null);
  const sent = receiver.requests.find((request) => noteOf(request) === "bad-4711");
  const shown = await run("dead-letters", "show", String(sent?.headers["ce-id"]), "-o", "json");
  const { event, error } = JSON.parse(shown);
  assert.deepEqual([event.id, error], [sent?.headers["ce-id"], "422: the receiver refuses the event"]);
  assert.deepEqual(event.data, sent?.events[0]?.data);
  const other = await tryRun("dead-letters", "show", "999");
  assert.deepEqual(
    [other.code, other.stderr],
    [1, "PGE_NOT_FOUND: There is no dead letter 999. `pg-events dead-letters list` shows what there is.\n"],
  );
  assert.equal((await tryRun("dead-letters", "redeliver")).code, 2);
  assert.match(
    (await tryRun("dead-letters", "discard", "--all")).stderr,
    /PGE_FLAG_INVALID: 2 dead letters would be/,
  );
  assert.equal(await rowCount(database, "dead_letter"), 2);

  // What is refused once more is a dead letter once more.
  assert.equal(
    await run("dead-letters", "redeliver", String(sent?.headers["ce-sequence"])),
    "1 dead letter will be delivered again.\n",
  );
  await eventually(() => receiver.requests.filter((request) => isMarked(request)).length === 1);
  await eventually(async () => (await rowCount(database, "parked")) === 0);
  assert.equal(await rowCount(database, "dead_letter"), 2);

  shop.answer = () => 204;
  await run(
    "dead-letters",
    "redeliver",
    "--all",
    "--table",
    "public.orders",
    "--error",
    "REFUSES",
    "--since",
    "1h",
  );
  const events = await receiver.waitFor(3);
  assert.deepEqual(
    events
      .slice(1)
      .map(({ data }) => data.new?.note)
      .sort(),
    ["bad-4711", "bad-4712"],
  );
  await eventually(async () => (await rowCount(database, "parked")) === 0);
  assert.equal(await rowCount(database, "dead_letter"), 0);
  assert.deepEqual(receiver.requests.slice(-2).map(isMarked), [true, true]);
  assert.ok(receiver.requests.slice(-2).some(({ headers }) => headers["ce-id"] === sent?.headers["ce-id"]));

  shop.answer = () => 422;
  await database.query("insert into orders values (4, 'x')");
  await eventually(async () => (await rowCount(database, "dead_letter")) === 1);
  assert.equal(
    await run("dead-letters", "discard", "--all", "--yes", "--callback", "other"),
    "0 dead letters discarded.\n",
  );
  assert.equal(await run("dead-letters", "discard", "--all", "--yes"), "1 dead letter discarded.\n");
  assert.equal(await run("dead-letters", "list"), "No dead letters.\n");
});

test("G1 G2 kill -9 while dead letters are delivered again loses none; each row's come in order", async (t) => {
  const shop = await scene(t);
  const { database, receiver, source, run } = shop;
  shop.answer = () => 422;
  let worker = await source.startWorker();
  for (let round = 0; round < 3; round += 1)
    await database.query(
      "insert into orders select i, $1 from generate_series(1, 400) as i on conflict (id) do update set note = $1",
      [String(round)],
    );
  await eventually(async () => (await rowCount(database, "dead_letter")) === 1200, { timeoutMs: 60_000 });
  shop.answer = () => 204;
  assert.equal(
    await run("dead-letters", "redeliver", "--all"),
    "1200 dead letters will be delivered again.\n",
  );
  await receiver.waitFor(300);
  worker.kill("SIGKILL");
  await worker.exited;
  assert.ok(receiver.events.length < 1200, "it was killed in the middle");
  worker = await source.startWorker();
  await receiver.waitFor((events) => new Set(events.map(({ id }) => id)).size === 1200, 60_000);
  assertOrder(receiver.events);
  await eventually(async () => (await rowCount(database, "parked")) === 0);
  assert.equal(await rowCount(database, "dead_letter"), 0);
  assert.ok(receiver.duplicates <= 600, `${receiver.duplicates} repeats`);
});

/** The first delivery of each event comes in the order of its row's changes. */
function assertOrder(events: readonly ReceivedEvent[]): void {
  const last = new Map<string, bigint>();
  const seen = new Set<string>();
  for (const { id, subject, sequence } of events) {
    if (seen.has(id)) continue;
    seen.add(id);
    assert.ok(BigInt(sequence) > (last.get(subject) ?? 0n), `${subject} ${sequence}`);
    last.set(subject, BigInt(sequence));
  }
}

test("a replay is counted, marked, in order, with the same ids; the position stays and live events go on", async (t) => {
  const { database, receiver, source, run, tryRun } = await scene(t);
  await database.query("create table other (id integer primary key)");
  await source.build();
  await source.startWorker();
  await database.query("insert into orders values (1, '0'), (2, '0')");
  await database.query("insert into other values (1)");
  for (let round = 1; round <= 5; round += 1)
    await database.query("update orders set note = $1", [String(round)]);
  await database.query("update orders set id = 3 where id = 2");
  await database.query("truncate orders");
  await database.query("insert into orders values (9, 'after')");
  const before = [...(await receiver.waitFor(16))];
  await eventually(
    async () => JSON.parse((await tryRun("status", "-o", "json")).stdout).callbacks[0].pending === 0,
  );
  const position = () => database.query("select seen, term from pgevents.callback");
  assert.equal(
    await run("replay", "--callback", "orders", "--since", "1h", "--dry-run"),
    "16 events would be delivered to orders again.\n",
  );
  assert.equal(await rowCount(database, "replay"), 0);
  const third = String(receiver.requests[2]?.headers["ce-id"]);
  const plan = JSON.parse(
    await run(
      "replay",
      "--callback",
      "orders",
      "--from-id",
      third,
      "--until-id",
      "10",
      "--dry-run",
      "-o",
      "json",
    ),
  );
  assert.deepEqual(
    [plan.events, plan.exact, plan.gone],
    [10 - Number(third.split("-").at(-1)) + 1, true, false],
  );
  const { rows: first } = await position();
  assert.equal(
    await run("replay", "--callback", "orders", "--since", "1h", "--table", "public.orders"),
    "Replay 3: 15 events will be delivered to orders again.\n",
  );
  await database.query("insert into orders values (10, 'live')");
  await receiver.waitFor(before.length + 16);
  const again = receiver.requests.filter(isMarked);
  const wanted = receiver.requests
    .slice(0, 16)
    .filter(({ events }) => events[0]?.data.relation.table === "orders");
  assert.deepEqual(
    again.map(({ headers }) => headers["ce-id"]).sort(),
    wanted.map(({ headers }) => headers["ce-id"]).sort(),
  );
  assertOrder(receiver.events.slice(before.length));
  const operations = again.map(({ events }) => events[0]?.data.operation);
  assert.deepEqual(
    operations.slice(-2),
    ["Truncate", "Insert"],
    "a Truncate divides what comes before and after it",
  );
  await eventually(async () => (await run("replay", "list")).includes("Done"));
  assert.match(await run("replay", "list"), /^3 +orders +Done +100% +15 +0 +0 /m);
  const { rows: last } = await position();
  assert.equal(last[0]?.term, first[0]?.term);
  assert.equal(await rowCount(database, "parked"), 0);
  const refused = await tryRun("replay", "--callback", "ordres", "--since", "1h");
  assert.equal(
    refused.stderr,
    'PGE_FLAG_INVALID: There is no callback "ordres". The manifest has: orders.\n',
  );
});

test("G1 G2 a replay goes on after kill -9, by whichever workers hold the lanes", async (t) => {
  const { database, receiver, source, run } = await scene(t);
  const workers = [await source.startWorker(), await source.startWorker()];
  for (let round = 0; round < 6; round += 1)
    await database.query(
      "insert into orders select i, $1 from generate_series(1, 500) as i on conflict (id) do update set note = $1",
      [String(round)],
    );
  await database.query("update orders set id = id + 1000 where id <= 20"); // to keys of other lanes
  await receiver.waitFor(3020, 60_000);
  await eventually(async () => (await rowCount(database, "lease")) >= 2, { timeoutMs: 30_000 });
  const dryRun = ["replay", "--callback", "orders", "--since", "1h", "--dry-run"];
  await eventually(async () => (await run(...dryRun)).startsWith("3020 "), { timeoutMs: 30_000 });
  const before = receiver.events.length;
  await run("replay", "--callback", "orders", "--since", "1h");
  await receiver.waitFor(before + 500, 60_000);
  workers[0]?.kill("SIGKILL");
  await workers[0]?.exited;
  await database.query("update orders set note = 'live'");
  await source.startWorker();
  await receiver.waitFor(
    (events) => new Set(events.slice(before).map(({ id }) => id)).size === 3020 + 500,
    90_000,
  );
  const again = receiver.events.slice(before).filter(({ data }) => data.new?.note !== "live");
  assertOrder(again);
  await eventually(async () => (await run("replay", "list")).includes("Done"), { timeoutMs: 30_000 });
  assert.equal(await rowCount(database, "parked"), 0);
  const counted = JSON.parse(await run("replay", "list", "-o", "json")).replays[0];
  assert.deepEqual([counted.events, counted.left, counted.deadLetters], [3020, 0, 0]);
});

test("live events do not wait for a replayed one that fails, which becomes a dead letter", async (t) => {
  const shop = await scene(t, (url) => [callbackTo(url, { delivery: { ...FAST, attempts: 3 } })]);
  const { database, receiver, source, run } = shop;
  await source.startWorker();
  await database.query("insert into orders values (1, 'old')");
  await receiver.waitFor(1);
  await eventually(
    async () => JSON.parse((await shop.tryRun("status", "-o", "json")).stdout).callbacks[0].pending === 0,
  );
  shop.answer = (request) => (isMarked(request) ? 500 : 204);
  await run("replay", "--callback", "orders", "--since", "1h");
  await eventually(() => receiver.requests.some(isMarked));
  await database.query("update orders set note = 'new'");
  await receiver.waitFor(2);
  await eventually(async () => (await rowCount(database, "dead_letter")) === 1, { timeoutMs: 30_000 });
  assert.equal(receiver.requests.filter(isMarked).length, 3);
  await eventually(async () => (await run("replay", "list")).includes("Done"));
  assert.match(await run("replay", "list"), /Done +100% +1 +0 +1 /);
});

test("several replays of a callback go one after the other; one can be cancelled; a part that is gone is told", async (t) => {
  const shop = await scene(t);
  const { database, receiver, source, run, tryRun } = shop;
  let worker = await source.startWorker();
  await database.query("insert into orders select i, 'x' from generate_series(1, 50) as i");
  await receiver.waitFor(50);
  worker.kill("SIGTERM");
  await worker.exited;
  const replay = ["replay", "--callback", "orders", "--since", "1h"];
  assert.match(await run(...replay), /^Replay 1: 50 events/);
  const second = await tryRun(...replay);
  assert.deepEqual([second.code, second.stderr], [0, "note: 1 of this callback goes first.\n"]);
  assert.match(await run(...replay, "--table", "public.none"), /^Nothing to replay/);
  const states = async () =>
    JSON.parse(await run("replay", "list", "-o", "json")).replays.map((one: { state: string }) => one.state);
  assert.deepEqual(await states(), ["Queued", "Running"]);
  assert.equal(await run("replay", "cancel", "1"), "Replay 1 is cancelled.\n");
  assert.deepEqual(await states(), ["Running", "Cancelled"]);
  const again = await tryRun("replay", "cancel", "1");
  assert.deepEqual([again.code, again.stderr.slice(0, 13)], [1, "PGE_NOT_FOUND"]);
  worker = await source.startWorker();
  await receiver.waitFor(100);
  await eventually(async () => (await states())[0] === "Done");
  assert.equal(receiver.requests.filter(isMarked).length, 50);
  assert.equal(receiver.events.length, 100);

  await database.query("update pgevents.installation set gone_until = now() - interval '10 minutes'");
  const gone = await tryRun(...replay);
  assert.equal(gone.code, 1);
  assert.match(
    gone.stderr,
    /^PGE_REPLAY_NOT_RETAINED: Events from before .* are not in the outbox any more\. Begin later/,
  );
  assert.equal((await tryRun("replay", "--callback", "orders", "--since", "5m", "--dry-run")).code, 0);
  assert.equal((await tryRun("replay", "--callback", "orders", "--from-id", "1", "--dry-run")).code, 0);
  assert.match((await tryRun(...replay, "--available", "--dry-run")).stderr, /may be gone/);
  const { position } = JSON.parse((await tryRun("status", "-o", "json")).stdout).callbacks[0];
  assert.match(
    await run("replay", "--callback", "orders", "--from-position", position.seen),
    /^Nothing to replay/,
  );
  const wrong = await tryRun("replay", "--callback", "orders", "--from-position", "x");
  assert.match(wrong.stderr, /^PGE_FLAG_INVALID: --from-position: x is no position\./);
  assert.equal((await tryRun("replay", "--callback", "orders")).code, 2);
  assert.equal((await tryRun("replay", "--callback", "orders", "--since", "yesterday")).code, 2);
});

test("G1 a deadLetterCallback gets dead letters with the reason; they stay stored until it has them", async (t) => {
  const shop = await scene(t, (url) => [
    callbackTo(url, { delivery: FAST, deadLetterCallback: "letters" }),
    callbackTo(url, {
      name: "letters",
      delivery: { ...FAST, attempts: 1000 },
      filter: { deadLetters: "Only" },
    }),
  ]);
  const { database, receiver, source, run } = shop;
  const toLetters = ({ path }: ReceivedRequest) => path === "/letters";
  shop.answer = (request) => (toLetters(request) ? 503 : noteOf(request) === "bad" ? 422 : 204);
  let worker = await source.startWorker();
  await database.query("insert into orders values (1, 'bad'), (2, 'good'), (3, 'bad')");
  await eventually(
    async () => receiver.requests.some(toLetters) && (await rowCount(database, "dead_letter")) === 2,
  );
  worker.kill("SIGKILL");
  await worker.exited;
  shop.answer = (request) => (!toLetters(request) && noteOf(request) === "bad" ? 422 : 204); // "good" may come again
  worker = await source.startWorker();
  await receiver.waitFor(
    (events) =>
      new Set(events.filter(({ callbackPath }) => callbackPath === "/letters").map(({ id }) => id)).size ===
      2,
  );
  const letter = receiver.requests.filter(toLetters).at(-1);
  const refused = receiver.requests.find((request) => request.events[0]?.id === letter?.events[0]?.id);
  assert.deepEqual(letter?.events[0]?.data, refused?.events[0]?.data);
  const attributes = ["callback", "error", "attempts"].map((name) =>
    decodeURIComponent(String(letter?.headers[`ce-pgeventsdeadletter${name}`])),
  );
  assert.deepEqual(attributes, ["orders", "422: the receiver refuses the event", "1"]);
  assert.equal(letter?.headers["ce-pgeventsreplay"], undefined);
  await eventually(
    async () => (await rowCount(database, "dead_letter")) + (await rowCount(database, "parked")) === 0,
  );

  // One that is refused there is a dead letter of both, and goes nowhere.
  shop.answer = () => 422;
  await database.query("insert into orders values (4, 'worse')");
  await eventually(async () => (await rowCount(database, "dead_letter")) === 2);
  const { deadLetters } = JSON.parse(await run("dead-letters", "list", "-o", "json"));
  assert.deepEqual(
    deadLetters
      .map(({ callback, letterOf }: { callback: string; letterOf: string | null }) => [callback, letterOf])
      .sort(),
    [
      ["letters", "orders"],
      ["orders", null],
    ],
  );
  shop.answer = () => 204;
  await run("dead-letters", "redeliver", "--all", "--callback", "letters");
  await eventually(async () => (await rowCount(database, "dead_letter")) === 0, {
    what: "both to be seen to",
  });
  assert.equal(receiver.requests.at(-1)?.headers["ce-pgeventsdeadlettercallback"], "orders");
  assert.equal(receiver.requests.at(-1)?.headers["ce-pgeventsreplay"], "true");
  assert.ok(
    receiver.events
      .filter(({ callbackPath }) => callbackPath === "/letters")
      .every(({ data }) => data.new?.note !== "good"),
  );
});

test("G1 a callback that is suspended keeps its position, and gets everything once when it goes on", async (t) => {
  const shop = await scene(t, (url) => [callbackTo(url), callbackTo(url, { name: "audit" })]);
  const { database, receiver, source, tryRun } = shop;
  const of = (path: string) => receiver.events.filter(({ callbackPath }) => callbackPath === path).length;
  let worker = await source.startWorker();
  await database.query("insert into orders values (1, 'a')");
  await receiver.waitFor(2);
  const restart = async (suspend: boolean) => {
    source.change({
      callbacks: [callbackTo(receiver.url), callbackTo(receiver.url, { name: "audit", suspend })],
    });
    worker.kill("SIGTERM");
    assert.equal((await worker.exited).code, 0);
    worker = await source.startWorker();
  };
  await restart(true);
  await database.query("insert into orders select i, 'b' from generate_series(2, 1500) as i");
  await eventually(() => of("/orders") === 1500);
  assert.equal(of("/audit"), 1);
  const status = JSON.parse((await tryRun("status", "-o", "json")).stdout).callbacks;
  const audit = status.find((one: { name: string }) => one.name === "audit");
  assert.deepEqual([audit.state, audit.pending, audit.holders], ["Suspended", 1499, []]);
  await restart(false);
  await eventually(() => of("/audit") === 1500);
  assert.equal(receiver.duplicates, 1500, "each event once for each of the two");
});
