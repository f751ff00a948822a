/** What others change in the capture by hand: healed by the next build, or told with what to do. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { databaseFromUrl } from "../../src/core/settings/database.ts";
import { type BuildRequest, buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { traces } from "../support/traces.ts";

const REQUEST: BuildRequest = {
  capture: captureSpec(),
  callbacks: ["a"],
  owner: "manifest:default/test",
  version: "1.0.0",
};

const build = (database: Pick<TestDatabase, "settings">, mode: "apply" | "plan" = "apply") =>
  buildCapture(database.settings, REQUEST, { mode });

async function captured(database: TestDatabase): Promise<TestDatabase> {
  await database.query("create table orders (id integer primary key)");
  await build(database);
  return database;
}

describe("drift is healed", () => {
  test("of triggers: renamed, disabled, set to fire for replicas only, or always", async (t) => {
    const database = await captured(await testDatabase(t, { owner: true }));
    const whole = await traces(database);
    for (const drift of [
      'alter trigger "!pgevents_insert" on orders rename to mine',
      "alter table orders disable trigger all",
      'alter table orders enable replica trigger "!pgevents_delete"',
      'alter table orders enable always trigger "!pgevents_insert"',
    ]) {
      await database.query(drift);
      assert.equal((await build(database)).changed, true, drift);
      assert.equal((await build(database)).changed, false, drift);
      assert.equal(await traces(database), whole, drift);
    }
  });

  test("of rights: what the owner lost is given back, and writes go on", async (t) => {
    const database = await captured(await testDatabase(t, { owner: true }));
    const admin = await connect(t, database.superuserUrl);
    for (const drift of [
      `revoke all on pgevents.outbox, pgevents.outbox_0 from ${database.name}`,
      `revoke all on sequence pgevents.outbox_id from ${database.name}`,
    ]) {
      await admin.query(drift);
      await assert.rejects(database.query("insert into orders values (0)"), { code: "42501" }, drift);
      assert.equal((await build(database)).changed, true, drift);
      assert.equal((await build(database)).changed, false, drift);
      await database.query("insert into orders select coalesce(max(id), 0) + 1 from orders");
    }
    await admin.query(`revoke execute on all functions in schema pgevents from ${database.name}`);
    assert.deepEqual([(await build(database)).changed, (await build(database)).changed], [true, false]);
    await admin.query(`revoke all on all tables in schema pgevents from ${database.name}`);
    const [finding] = (await build(database, "plan")).findings;
    assert.equal(finding?.code, "CaptureNotReadable");
    await database.query(finding?.remedy ?? "");
    assert.equal((await build(database)).failures.length, 0);
    const { rows } = await database.query("select operation, table_name from pgevents.outbox order by id");
    assert.deepEqual(rows, Array(2).fill({ operation: "I", table_name: "orders" }));
  });

  test("of owners: an ordinary role is told what it may not put right, a superuser does it", async (t) => {
    const database = await captured(await testDatabase(t, { owner: true }));
    const admin = await connect(t, database.superuserUrl);
    const superuser = { settings: databaseFromUrl(database.superuserUrl, "a test") };
    await admin.query(
      "alter function pgevents.capture_insert() owner to current_user; alter table pgevents.dead_letter owner to current_user",
    );
    const [finding] = (await build(database, "plan")).findings;
    assert.equal(finding?.code, "SchemaNotAllowed");
    await build(superuser);
    assert.equal((await build(database)).changed, false);
    const { rows } = await admin.query(
      "select distinct relowner::regrole::text as owner from pg_class where relnamespace = 'pgevents'::regnamespace union select proowner::regrole::text from pg_proc where pronamespace = 'pgevents'::regnamespace",
    );
    assert.deepEqual(rows, [{ owner: database.name }]);
  });
});

describe("what cannot be healed is told", () => {
  for (const damage of [
    "drop table pgevents.dead_letter",
    "drop table pgevents.callback",
    "drop table pgevents.migration",
    "alter table pgevents.outbox drop column context cascade",
  ]) {
    test(`${damage}: nothing is built; uninstall, and what the remedy says, take it away`, async (t) => {
      const database = await testDatabase(t, { owner: true });
      await database.query("create table orders (id integer primary key)");
      const before = await traces(database);
      await build(database);
      await database.query(damage);
      const [finding] = (await build(database, "plan")).findings;
      assert.equal(finding?.code, "CaptureDamaged");
      await assert.rejects(build(database), { code: "PGE_CAPTURE_DAMAGED", reason: "BuildFailed" });
      const other = { schemaName: "pgevents", owner: "manifest:default/other" };
      await assert.rejects(removeCapture(database.settings, other), { code: "PGE_OWNERSHIP_CONFLICT" });
      const removal = await removeCapture(database.settings, { ...other, owner: REQUEST.owner });
      assert.deepEqual(removal, { removed: true, tables: 1 });
      assert.equal(await traces(database), before);
      await build(database);
      await database.query(damage);
      await database.query(/drop schema .*?;/.exec(finding?.remedy ?? "")?.[0] ?? "");
      assert.equal(await traces(database), before);
      assert.equal((await build(database)).failures.length, 0);
    });
  }

  test("without the table that says whose it is: a schema that is in use", async (t) => {
    const database = await captured(await testDatabase(t, { owner: true }));
    await database.query("drop table pgevents.installation");
    await assert.rejects(build(database), { code: "PGE_SCHEMA_IN_USE" });
  });

  test("columns that others put on the outbox: a warning, with what takes them away", async (t) => {
    const database = await captured(await testDatabase(t, { owner: true }));
    await database.query('alter table pgevents.outbox add column "Mine" text');
    await database.query("insert into orders values (1)");
    const report = await build(database);
    const finding = report.findings.find(({ code }) => code === "OutboxChanged");
    assert.deepEqual([report.changed, finding?.severity], [false, "Warning"]);
    await database.query(finding?.remedy ?? "");
    assert.ok(!(await build(database)).findings.some(({ code }) => code === "OutboxChanged"));
  });
});
