import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually, runCli, startCli } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

const SPEC = { callbacks: [callbackTo("http://127.0.0.1:9")] };
const NO_DATABASE = { PG_EVENTS_DATABASE_URL: undefined };

describe("pg-events build", () => {
  test("twice, --check, --dry-run and --uninstall say and do what they should", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    const source = localSource(t, database, SPEC);
    const env = { PG_EVENTS_DATABASE_URL: database.url };
    const run = (...flags: string[]) => runCli(t, ["build", "-f", source.manifest, ...flags], { env });

    assert.equal((await run("--check")).code, 3);
    const dry = await run("--dry-run");
    assert.equal(dry.code, 0);
    assert.match(dry.stdout, /create or replace trigger "!pgevents_insert"/);
    assert.equal((await run("--check")).code, 3, "neither of them changed anything");
    assert.match((await run()).stdout, /^Built \(\d+ actions\): 1 table captured, PostgreSQL /m);
    assert.match((await run()).stdout, /^Nothing changed: 1 table captured/m);
    assert.equal((await run("--check")).code, 0);
    assert.match((await run("--dry-run")).stdout, /nothing to do/);
    assert.match((await run("--uninstall")).stdout, /^Removed capture of 1 table and schema pgevents\.$/m);
    assert.match((await run("--uninstall")).stdout, /^Nothing to remove\.$/m);
  });

  test("the SQL of --dry-run, run by hand, is what a build makes", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`create table "odd ""name" (id integer primary key)`);
    const source = localSource(t, database, SPEC);
    const sql = await source.build("--dry-run");
    await database.query(sql);
    assert.match(await source.build("--check"), /^Nothing changed: 1 table captured/m);
  });

  test("wrong input ends with one message that says what, where and what to do, and no secret", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const source = localSource(t, database, SPEC);
    const build = (args: string[], url?: string) =>
      runCli(t, ["build", ...args], { env: { PG_EVENTS_DATABASE_URL: url } }).then(({ code, stderr }) => [
        code,
        stderr.trim(),
      ]);
    const manifest = ["-f", source.manifest];

    const usage =
      "error: one of '--manifest <file>' and '--settings <module>' is needed\n(--help lists the options)";
    assert.deepEqual(await build([]), [2, usage]);
    assert.match(
      String((await build(["-f", "/nowhere.yaml"]))[1]),
      /^PGE_MANIFEST_UNREADABLE: \/nowhere\.yaml: there is no such file\.$/,
    );
    assert.match(String((await build(manifest))[1]), /^PGE_DATABASE_MISSING: .*--database-url/);
    const secret = "s3cr3t-value";
    for (const url of [
      `http://u:${secret}@h/d`,
      `postgres://u:${secret}@h/d?host=evil`,
      `postgres://u:${secret}@/d`,
      `postgres://u:${secret}%zz@h/d`,
    ]) {
      const [code, message] = await build(manifest, url);
      assert.equal(code, 1);
      assert.match(String(message), /^PGE_DATABASE_URL_INVALID: PG_EVENTS_DATABASE_URL/);
      assert.doesNotMatch(String(message), /s3cr3t/);
    }
    const unreachable = await build(manifest, `postgres://u:${secret}@127.0.0.1:9/d`);
    assert.match(
      String(unreachable[1]),
      /^PGE_CONNECTION_FAILED: Database d at 127\.0\.0\.1:9 cannot be reached: ECONNREFUSED/,
    );
    const refused = await build(manifest, database.url.replace(/:[^:@]+@/, `:${secret}@`));
    assert.match(String(refused[1]), /^PGE_AUTHENTICATION_FAILED: .*SQLSTATE 28P01/);
    source.change({ callbacks: [{ name: "a", http: { uri: "ftp://x", formt: 1 } }] });
    assert.match(
      String((await build(manifest, database.url))[1]),
      /spec\.callbacks\[0\]\.http\.uri: must be an absolute http or https URL.*; spec\.callbacks\[0\]\.http\.formt: no such field/,
    );
    writeFileSync(source.manifest, "a: [1");
    assert.match(String((await build(manifest, database.url))[1]), /^PGE_MANIFEST_UNREADABLE: .* at line \d/);
  });
});

describe("pg-events worker", () => {
  test("waits for a build that has not been made, serves probes and metrics, and drains on SIGTERM", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const receiver = await startReceiver(t);
    await database.query("create table orders (id integer primary key)");
    const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
    const worker = await source.startWorker({ waitForRelay: false });
    await worker.waitForLine(/PGE_NOT_BUILT.*pg-events build/);
    const started = JSON.parse(await worker.waitForLine(/"worker started"/)) as {
      metrics: number;
      probes: number;
    };
    const get = async (port: number, path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, text: await response.text() };
    };
    assert.equal((await get(started.probes, "/livez")).status, 200);
    assert.equal((await get(started.probes, "/nothing")).status, 404);
    await source.build();
    await worker.waitForLine(/"relaying callback"/);
    await eventually(async () => (await get(started.probes, "/readyz")).status === 200);
    await database.query("insert into orders values (1), (2)");
    await receiver.waitFor(2);
    const metrics = (await get(started.metrics, "/metrics")).text;
    assert.match(metrics, /^pgevents_deliveries_total\{callback="orders",result="success"\} 2$/m);
    assert.match(metrics, /^pgevents_delivery_attempts_total\{callback="orders",code="204"\} 2$/m);
    assert.match(metrics, /^pgevents_db_up 1$/m);
    worker.kill("SIGTERM");
    assert.equal((await worker.exited).code, 0);
    const { rows } = await database.query("select holder, state from pgevents.callback");
    assert.deepEqual(rows, [{ holder: null, state: "Waiting" }]);
  });

  test("headers from Secrets, read anew when the file changes; the values are in no log", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const receiver = await startReceiver(t);
    await database.query("create table orders (id integer primary key)");
    const headers = [
      { name: "Authorization", secretKeyRef: { name: "tokens", key: "orders" } },
      { name: "X-Shop", value: "1" },
    ];
    const source = localSource(t, database, { callbacks: [callbackTo(receiver.url, { http: { headers } })] });
    await source.build();
    const directory = join(dirname(source.manifest), "secrets");
    mkdirSync(join(directory, "tokens"), { recursive: true });
    const write = (value: string) => writeFileSync(join(directory, "tokens", "orders"), `${value}\n`);
    write("Bearer first-token");
    const worker = startCli(
      t,
      [
        "worker",
        "-f",
        source.manifest,
        "--secrets",
        directory,
        "--metrics-address",
        "127.0.0.1:0",
        "--probes-address",
        "127.0.0.1:0",
        "--log-level",
        "Debug",
      ],
      { env: { PG_EVENTS_DATABASE_URL: database.url } },
    );
    await worker.waitForLine(/"relaying callback"/);
    await database.query("insert into orders values (1)");
    await receiver.waitFor(1);
    write("Bearer second-token");
    await eventually(async () => {
      await database.query("insert into orders select max(id) + 1 from orders");
      return receiver.requests.some(({ headers: sent }) => sent.authorization === "Bearer second-token");
    });
    assert.equal(receiver.requests[0]?.headers.authorization, "Bearer first-token");
    assert.equal(receiver.requests[0]?.headers["x-shop"], "1");
    assert.doesNotMatch(worker.stdout + worker.stderr, /-token/);
  });

  test("wrong input ends with one message and exit code 1", async (t) => {
    const none = await runCli(t, ["worker"], { env: NO_DATABASE });
    assert.deepEqual(
      [none.code, none.stderr.trim()],
      [1, "PGE_MANIFEST_MISSING: No source is given. Set --manifest, --settings or PG_EVENTS_SOURCE."],
    );
    const notJson = await runCli(t, ["worker"], { env: { ...NO_DATABASE, PG_EVENTS_SOURCE: "{" } });
    assert.match(notJson.stderr, /^PGE_MANIFEST_UNREADABLE: PG_EVENTS_SOURCE is not JSON\./);
    const wrongLevel = await runCli(t, ["worker", "--log-level", "Loud"], { env: NO_DATABASE });
    assert.equal(wrongLevel.code, 2);
  });
});
