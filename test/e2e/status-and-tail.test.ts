/** `pg-events status` and `tail` with real processes, as the builder's role and as one with a worker's rights. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually, runCli, startCli } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

async function scene(t: TestEnd) {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t, {
    respond: ({ events }) => (events[0]?.data.new?.note === "bad" ? 422 : 204),
  });
  await database.query("create table orders (id integer primary key, note text)");
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  const env = { PG_EVENTS_DATABASE_URL: database.url };
  const manifest = ["--manifest", source.manifest];
  return {
    database,
    receiver,
    source,
    run: (words: string[], url = database.url) =>
      runCli(t, [...words, ...manifest], { env: { PG_EVENTS_DATABASE_URL: url } }),
    start: (words: string[]) => startCli(t, [...words, ...manifest], { env }),
  };
}

test("status tells what needs a look, by its exit code too", async (t) => {
  const { database, receiver, source, run } = await scene(t);
  const before = await run(["status"]);
  assert.deepEqual([before.code, before.stderr.slice(0, 13)], [1, "PGE_NOT_BUILT"]);
  await source.build();
  const waiting = await run(["status"]);
  assert.equal(waiting.code, 1);
  assert.match(waiting.stdout, /^! callback orders: no worker relays it$/m);
  const worker = await source.startWorker();
  await database.query("insert into orders values (1, 'good')");
  await receiver.waitFor(1);
  const good = await eventually(async () => {
    const status = await run(["status"]);
    return status.code === 0 ? status : null;
  });
  assert.match(good.stdout, /^Capture: 1 table, schema pgevents, schema changes: Poll$/m);
  assert.match(good.stdout, /^orders +Delivering +\S+:32 +0 +0s +0 +0 +0 +0 +\d+:\d+:/m);
  await database.query("insert into orders values (2, 'bad')");
  const bad = await eventually(async () => {
    const { code, stdout } = await run(["status", "-o", "json"]);
    const report = JSON.parse(stdout);
    return report.callbacks[0].deadLetters === 1 ? { code, report } : null;
  });
  assert.equal(bad.code, 1);
  assert.deepEqual(bad.report.problems, ["callback orders has 1 dead letter: `pg-events dead-letters list`"]);
  assert.equal(bad.report.capture.differs, false);
  await database.query("create table invoices (id integer)");
  worker.kill("SIGKILL");
  await worker.exited;
  await eventually(async () => (await run(["status"])).stdout.includes("no worker relays it"));
});

test("a role that only may what a worker may can look and act", async (t) => {
  const { database, source, run } = await scene(t);
  await source.build();
  const superuser = await connect(t, database.superuserUrl);
  const role = `${database.name}_worker`;
  await superuser.query(`
    create role ${role} login password 'secret';
    grant usage on schema pgevents to ${role};
    grant select, insert, update, delete, truncate on all tables in schema pgevents to ${role};
    grant select, update, usage on all sequences in schema pgevents to ${role};
    grant execute on all functions in schema pgevents to ${role}`);
  t.after(async () => {
    const admin = await connect(
      { after: () => undefined },
      database.superuserUrl.replace(/\/[^/]*$/, "/postgres"),
    );
    await admin.query(`drop role ${role}`); // its rights went with the database
    await admin.end();
  });
  const url = database.superuserUrl.replace(/\/\/[^@]*@/, `//${role}:secret@`);
  await database.query("insert into orders values (1, 'x')");
  await database.query("update pgevents.callback set seen = pg_current_snapshot()");
  const replay = ["replay", "--callback", "orders", "--since", "1h"];
  for (const words of [
    replay,
    ["replay", "list"],
    ["replay", "cancel", "1"],
    ["dead-letters", "list"],
    ["dead-letters", "redeliver", "--all"],
    ["tail", "--since", "1h", "--count", "1"],
  ]) {
    const { code, stderr } = await run(words, url);
    assert.equal(code, 0, `${words.join(" ")}: ${stderr}`);
  }
  assert.match((await run(["status"], url)).stdout, /^orders +Waiting/m);
});

test("tail prints what is committed, from now or from a time, and ends by a signal; nothing waits for it", async (t) => {
  const { database, source, run, start } = await scene(t);
  await source.build();
  await database.query("insert into orders select i, 'old' from generate_series(1, 2500) as i");
  const everything = await run(["tail", "--since", "1h", "--count", "2500"]);
  assert.equal(everything.code, 0, everything.stderr);
  const events = everything.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    events.map(({ data }) => data.key[0]),
    Array.from({ length: 2500 }, (_, index) => index + 1),
  );
  const filtered = await run(["tail", "--since", "1h", "--count", "1", "--expression", "row.id == 77"]);
  assert.equal(JSON.parse(filtered.stdout).subject, "public.orders/[77]");

  const follow = start(["tail", "--table", "public.orders", "--operation", "Update"]);
  const big = "x".repeat(50_000);
  await eventually(async () => {
    await database.query("update orders set note = $1 where id = 1", [big]);
    return follow.stdout.includes("\n");
  });
  const late = await connect(t, database.url);
  await late.query("begin; update orders set note = 'late' where id = 2");
  await database.query("update orders set note = 'early' where id = 3");
  await follow.waitForLine(/"note":"early"/);
  await late.query("commit");
  await follow.waitForLine(/"note":"late"/);
  follow.kill("SIGINT");
  assert.equal((await follow.exited).code, 0);
  const lines = follow.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(lines[0].data.new.note, big);
  assert.ok(lines.every(({ data }) => data.operation === "Update"));
  const { rows } = await database.query(
    "select count(*)::integer as callbacks, count(holder)::integer as held from pgevents.callback",
  );
  assert.deepEqual(rows, [{ callbacks: 1, held: 0 }]);
  for (const [flag, problem] of [
    [["--count", "0"], /--count/],
    [["--table", "orders"], /Use schema\.table/],
    [["--expression", "row."], /^PGE_FLAG_INVALID: --expression/],
    [["--callback", "x"], /^PGE_FLAG_INVALID: There is no callback "x"/],
  ] as const) {
    const { code, stderr } = await run(["tail", ...flag]);
    assert.ok(code === 1 || code === 2);
    assert.match(stderr, problem);
  }
});
