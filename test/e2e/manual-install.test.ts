/** `spec.capture.install: Manual`: somebody else runs the SQL; pg-events checks it, and delivers. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { databaseFromUrl } from "../../src/core/settings/database.ts";
import { keepOutbox } from "../../src/postgres/backlog.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";
import { runCli } from "../support/processes.ts";
import { type ReceivedEvent, startReceiver } from "../support/receiver.ts";
import { traces } from "../support/traces.ts";

const TABLES = String.raw`
  create table orders (id integer primary key, note text);
  create table "It's ""odd"" \back" (id integer primary key);
  create table sales (region text, id integer, primary key (region, id)) partition by list (region);
  create table sales_eu partition of sales for values in ('eu')`;

interface Scene {
  /** As the superuser that runs the SQL. */
  readonly database: TestDatabase;
  readonly receiver: Awaited<ReturnType<typeof startReceiver>>;
  readonly source: ReturnType<typeof localSource>;
  readonly workerUrl: string;
  cli(...flags: string[]): ReturnType<typeof runCli>;
  /** Prints the SQL as the worker's role, and runs it as the superuser. */
  install(): Promise<string>;
}

async function scene(t: TestEnd, capture: Record<string, unknown> = {}): Promise<Scene> {
  const database = await testDatabase(t);
  await database.query(TABLES);
  const role = `worker_${randomBytes(4).toString("hex")}`;
  await database.query(`create role ${role} login password 'worker'`);
  t.after(async () => {
    await database.query(`drop owned by ${role}; drop role ${role}`).catch(() => undefined);
  });
  const url = new URL(database.url);
  url.username = role;
  url.password = "worker";
  const receiver = await startReceiver(t);
  const spec = (install: string) => ({
    capture: { ...capture, install },
    callbacks: [callbackTo(receiver.url, { filter: { schemaChanges: "Include" } })],
  });
  const source = localSource(t, { url: url.href }, spec("Manual"));
  const env = { PG_EVENTS_DATABASE_URL: url.href };
  const cli = (...flags: string[]) => runCli(t, ["build", "--manifest", source.manifest, ...flags], { env });
  return {
    database,
    receiver,
    source,
    workerUrl: url.href,
    cli,
    async install() {
      const { code, stdout } = await cli("--dry-run");
      assert.equal(code, 0);
      runScript(database.url, stdout);
      return stdout;
    },
  };
}

/** By psql where there is one, as it is and without a setting of the user's. */
function runScript(url: string, script: string): void {
  const output = execFileSync("psql", ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url], {
    input: script,
    encoding: "utf8",
    stdio: ["pipe", "pipe", "pipe"],
  });
  assert.doesNotMatch(output, /ERROR/);
}

function psqlIsThere(): boolean {
  try {
    execFileSync("psql", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const skip = psqlIsThere() || process.env.CI === "true" ? false : "psql is not installed";

describe("install: Manual", { skip }, () => {
  test("changes nothing, prints SQL for psql, and sees that it was run", async (t) => {
    const { database, cli, install } = await scene(t);
    const before = await traces(database);
    const refused = await cli();
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^PGE_MANUAL_INSTALL: .* `pg-events build --dry-run` prints the SQL/m);
    assert.equal((await cli("--check")).code, 3);
    assert.equal(await traces(database), before);
    await install();
    const checked = await cli("--check");
    assert.deepEqual([checked.code, checked.stderr], [0, ""]);
    assert.match(checked.stdout, /^Nothing changed: 3 tables captured/m);
    assert.match((await cli("--dry-run")).stdout, /^-- nothing to do$/m);
    assert.equal((await cli()).code, 0, "nothing to do is no failure");
  });

  for (const schemaChanges of ["EventTrigger", "Poll", "Off"]) {
    test(`schemaChanges ${schemaChanges}: the SQL makes exactly what a build makes`, async (t) => {
      const { database, cli, install, source, receiver } = await scene(t, { schemaChanges });
      const made = async () => {
        const { rows } = await database.query(
          `select spec_hash, version, functions_hash, capture_tables, owner, schema_change_mode,
             (select json_agg(name) from pgevents.callback) as callbacks,
             (select json_agg(version order by version) from pgevents.migration) as migrations
           from pgevents.installation`,
        );
        const objects = (await traces(database)).split("\n").filter((line) => !line.startsWith("rights "));
        return { rows, objects };
      };
      await install();
      assert.equal((await cli("--check")).code, 0);
      const byHand = await made();
      await database.query("drop schema pgevents cascade");
      source.change({
        capture: { schemaChanges, install: "Managed" },
        callbacks: [callbackTo(receiver.url)],
      });
      const { code, stderr } = await runCli(t, ["build", "--manifest", source.manifest], {
        env: { PG_EVENTS_DATABASE_URL: database.url },
      });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(byHand, await made());
    });
  }

  test("G1 a worker with only the rights that the SQL grants delivers, and builds nothing", async (t) => {
    const { database, receiver, source, cli, install } = await scene(t, { schemaChanges: "Poll" });
    await install();
    const worker = await source.startWorker();
    await database.query("insert into orders select number, 'x' from generate_series(1, 2500) as number");
    await receiver.waitFor(2500); // more than one read: the index for slices is brought up to date
    await database.query("insert into sales values ('eu', 1)");
    await receiver.waitFor((events) => events.some(({ data }) => data.relation.table === "sales"));

    await database.query("create table later (id integer primary key)");
    const line = await worker.waitForLine(/install is Manual/);
    assert.deepEqual(JSON.parse(line).pending, ["table:public.later"]);
    await receiver.waitFor((events) => events.some(({ type }) => /schema/.test(type)));
    await database.query("insert into later values (1)");
    const check = await cli("--check");
    assert.deepEqual([check.code, /table:public\.later/.test(check.stdout)], [3, true]);
    await install();
    await database.query("insert into later values (2)");
    const ofLater = (events: readonly ReceivedEvent[]) =>
      events.flatMap(({ data }) => (data.relation.table === "later" ? (data.new?.id ?? []) : []));
    assert.deepEqual(ofLater(await receiver.waitFor((events) => ofLater(events).length > 0)), [2]);
  });

  test("the outbox is kept with those rights, and no table of the application can be read", async (t) => {
    const { database, install, workerUrl } = await scene(t);
    await install();
    const worker = await connect(t, workerUrl);
    const names = captureNames("pgevents");
    const capture = captureSpec({ retentionSeconds: 0 });
    await database.query("insert into orders values (1)");
    await database.query(
      "update pgevents.segment set opened_at = now() - interval '1 day' where opened_at is not null",
    );
    assert.notEqual((await keepOutbox(worker, names, capture)).opened, null);
    await database.query("update pgevents.callback set seen = pg_current_snapshot()");
    await database.query(
      "update pgevents.segment set closed_at = now() - interval '1 day' where closed_at is not null",
    );
    assert.deepEqual((await keepOutbox(worker, names, capture)).emptied.length, 1);
    for (const refused of [
      "select from orders",
      "drop table pgevents.dead_letter",
      "create table pgevents.x ()",
    ])
      await assert.rejects(worker.query(refused), { code: "42501" }, refused);
    assert.equal(databaseFromUrl(workerUrl, "a test").user.startsWith("worker_"), true);
  });

  test("rights that were revoked are printed again; a role of another name can be given", async (t) => {
    const { database, cli, install, workerUrl } = await scene(t);
    await install();
    const role = new URL(workerUrl).username;
    await database.query(`revoke delete on pgevents.dead_letter from ${role}`);
    assert.match((await cli("--check")).stdout, /^Differs: grants\.$/m);
    await install();
    assert.equal((await cli("--check")).code, 0);
    const other = await cli("--dry-run", "--worker-role", "somebody else");
    assert.match(other.stdout, /grant usage on schema "pgevents" to "somebody else";/);
  });

  test("uninstall prints the SQL that leaves no trace", async (t) => {
    const { database, cli, install } = await scene(t, { schemaChanges: "EventTrigger" });
    const before = await traces(database);
    await install();
    const whole = await traces(database);
    const refused = await cli("--uninstall");
    assert.deepEqual([refused.code, /^PGE_MANUAL_INSTALL/m.test(refused.stderr)], [1, true]);
    const { code, stdout } = await cli("--uninstall", "--dry-run");
    assert.equal(code, 0);
    assert.equal(await traces(database), whole);
    runScript(database.url, stdout);
    assert.equal(await traces(database), before);
  });
});
