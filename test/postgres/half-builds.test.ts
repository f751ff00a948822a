/** Builds that end in the middle, at every place: what is left can be taken away without a trace, or built on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type BuildRequest, buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { localSource } from "../support/local-source.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { eventually, runCli, startCli } from "../support/processes.ts";
import { traces } from "../support/traces.ts";

const REQUEST: BuildRequest = {
  capture: captureSpec(),
  callbacks: ["a", "b"],
  owner: "manifest:default/test",
  version: "1.0.0",
};
const REMOVAL = { schemaName: "pgevents", owner: REQUEST.owner };
const TABLES = `
  create table orders (id integer primary key);
  create table items (id integer primary key);
  create table sales (region text, id integer, primary key (region, id)) partition by list (region);
  create table sales_eu partition of sales for values in ('eu')`;

/** A build that loses its database session after so many actions. @returns whether it was broken */
async function brokenBuild(
  database: TestDatabase,
  admin: { query(sql: string): Promise<unknown> },
  after: number,
) {
  let count = 0;
  const ended: Promise<unknown>[] = [];
  const kill = `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg-events/build' and datname = '${database.name}'`;
  const signal = new AbortController();
  const work = buildCapture(database.settings, REQUEST, {
    mode: "apply",
    signal: signal.signal,
    onAction: () => {
      count += 1;
      if (count !== after) return;
      ended.push(admin.query(kill));
      signal.abort();
    },
  });
  await work.catch(() => undefined);
  await Promise.all(ended);
  return count >= after;
}

for (const owner of [true, false]) {
  describe(`a build by ${owner ? "an ordinary role" : "a superuser"} that is broken after each of its actions`, () => {
    test("uninstall leaves no trace", async (t) => {
      const database = await testDatabase(t, { owner });
      const admin = await connect(t, database.superuserUrl);
      await database.query(TABLES);
      const before = await traces(database);
      let broken = 0;
      while (await brokenBuild(database, admin, broken + 1)) {
        broken += 1;
        await removeCapture(database.settings, REMOVAL);
        assert.equal(await traces(database), before, `after ${broken} actions`);
      }
      assert.ok(broken > 8, `it was broken ${broken} times`);
    });

    test("G4 the next build goes on, and what is there then is what one build makes", async (t) => {
      const database = await testDatabase(t, { owner });
      const admin = await connect(t, database.superuserUrl);
      await database.query(TABLES);
      await buildCapture(database.settings, REQUEST, { mode: "apply" });
      const whole = await traces(database);
      await removeCapture(database.settings, REMOVAL);
      for (let after = 1; await brokenBuild(database, admin, after); after += 2) {
        const { failures } = await buildCapture(database.settings, REQUEST, { mode: "apply" });
        assert.deepEqual(failures, []);
        assert.equal(await traces(database), whole, `after ${after} actions`);
        assert.equal((await buildCapture(database.settings, REQUEST, { mode: "apply" })).changed, false);
        await removeCapture(database.settings, REMOVAL);
      }
    });
  });
}

test("a build process that is killed while it waits for a table: uninstall leaves no trace", async (t) => {
  const database = await testDatabase(t, { owner: true });
  await database.query(TABLES);
  const before = await traces(database);
  const source = localSource(t, database, {
    callbacks: [{ name: "a", http: { uri: "http://127.0.0.1:9/" } }],
  });
  const env = { PG_EVENTS_DATABASE_URL: database.url };
  const locker = await connect(t, database.url);
  await locker.query("begin; lock table orders in share mode"); // the table after items
  const building = startCli(t, ["build", "--manifest", source.manifest], { env });
  await eventually(async () => {
    const { rows } = await database.query(
      "select from pg_locks where relation = 'orders'::regclass and not granted",
    );
    return rows.length > 0;
  });
  building.kill("SIGKILL");
  assert.equal((await building.exited).signal, "SIGKILL");
  await locker.query("rollback");
  assert.notEqual(await traces(database), before);
  const { code, stderr } = await runCli(t, ["build", "--manifest", source.manifest, "--uninstall"], { env });
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(await traces(database), before);
});
