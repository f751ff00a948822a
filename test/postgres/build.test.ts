import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PgEventsError } from "../../src/core/errors.ts";
import { type BuildRequest, buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { traces } from "../support/traces.ts";

const CAPTURE = captureSpec({ retentionSeconds: 60 });
const OPERATIONS = ["Insert", "Update", "Delete", "Truncate"] as const;

function request(changes: Partial<BuildRequest> = {}): BuildRequest {
  return { capture: CAPTURE, callbacks: ["a"], owner: "manifest:default/test", version: "1.0.0", ...changes };
}

function build(database: TestDatabase, changes: Partial<BuildRequest> = {}) {
  return buildCapture(database.settings, request(changes), { mode: "apply" });
}

async function refused(work: Promise<unknown>): Promise<PgEventsError> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof PgEventsError, `a PgEventsError, not ${String(error)}`);
  return error;
}

describe("build", () => {
  test("G4 as an ordinary role: the second build changes nothing and takes no lock", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(
      "create table orders (id integer primary key); create schema app; create table app.items (a int)",
    );
    const first = await build(database);
    assert.equal(first.changed, true);
    assert.equal(first.tables, 2);
    const locker = await connect(t, database.url);
    await locker.query("begin; lock table orders in access exclusive mode"); // a build that wants the table would wait
    const second = await build(database);
    assert.deepEqual([second.changed, second.tables, second.actions], [false, 2, []]);
  });

  test("names full of quotes, backslashes, semicolons and emoji are captured, and found unchanged", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const hostile = [
      `a"b; drop table x; --`,
      `back\\slash'quote`,
      "Ünïcödé 🦉",
      "n",
      "pgevents_new",
      "select",
    ];
    for (const name of hostile) {
      const quoted = name.replaceAll('"', '""');
      await database.query(
        `create table "${quoted}" ("${quoted}" integer, "m" integer, primary key ("${quoted}", "m"))`,
      );
    }
    assert.equal((await build(database)).tables, hostile.length);
    assert.equal((await build(database)).changed, false);
    for (const name of hostile)
      await database.query(`insert into "${name.replaceAll('"', '""')}" values (1, 2)`);
    const { rows } = await database.query("select table_name, key from pgevents.change_events() order by id");
    assert.deepEqual(
      rows,
      hostile.map((table_name) => ({ table_name, key: "[1,2]" })),
    );
  });

  test("uninstall leaves no trace, after a whole build and after one that did half", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(
      "create table orders (id integer primary key); create table items (id integer primary key)",
    );
    const before = await traces(database);
    await build(database);
    assert.notEqual(await traces(database), before);
    const owner = request().owner;
    assert.deepEqual(await removeCapture(database.settings, { schemaName: "pgevents", owner }), {
      removed: true,
      tables: 2,
    });
    assert.equal(await traces(database), before);
    assert.deepEqual(await removeCapture(database.settings, { schemaName: "pgevents", owner }), {
      removed: false,
      tables: 0,
    });

    const locker = await connect(t, database.url);
    await locker.query("begin; lock table items in share mode");
    const half = await buildCapture({ ...database.settings, lockTimeoutSeconds: 1 }, request(), {
      mode: "apply",
    });
    assert.deepEqual(
      half.failures.map(({ where, code }) => [where, code]),
      [["public.items", "LockTimeout"]],
    );
    assert.equal(half.tables, 1, "the other table is captured all the same");
    await locker.query("rollback");
    await removeCapture(database.settings, { schemaName: "pgevents", owner });
    assert.equal(await traces(database), before);
  });

  test("drift is healed: a dropped, a disabled and a changed trigger, and a replaced function", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    await build(database);
    const drifts = [
      'drop trigger "!pgevents_insert" on orders',
      'alter table orders disable trigger "!pgevents_insert"',
      'create or replace trigger "!pgevents_insert" after insert on orders referencing new table as pgevents_new for each statement execute function pgevents.capture_insert()',
      "create or replace function pgevents.capture_insert() returns trigger language plpgsql as 'begin return null; end'",
      "alter function pgevents.capture_insert() security invoker",
      "delete from pgevents.callback",
    ];
    for (const drift of drifts) {
      await database.query(drift);
      assert.equal((await build(database)).changed, true, drift);
      assert.equal((await build(database)).changed, false, drift);
    }
    await database.query("insert into orders values (1)");
    const { rows } = await database.query("select key from pgevents.change_events()");
    assert.deepEqual(rows, [{ key: "[1]" }]);
  });

  test("a primary key that changes gives the triggers their new columns", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key, other integer not null)");
    await build(database);
    await database.query("alter table orders drop constraint orders_pkey, add primary key (other, id)");
    assert.equal((await build(database)).changed, true);
    await database.query("insert into orders values (1, 2)");
    const { rows } = await database.query("select key from pgevents.change_events() where operation = 'I'");
    assert.deepEqual(rows, [{ key: "[2,1]" }]);
  });

  test("G7 an excluded table and an operation that is not captured leave nothing in the outbox", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(
      "create table orders (id integer primary key); create table secrets (id integer primary key)",
    );
    const tables = [{ schema: "public", name: "*", exclude: ["secrets"], operations: ["Insert" as const] }];
    await build(database, { capture: { ...CAPTURE, tables } });
    await database.query(
      "insert into secrets values (1); insert into orders values (2); update orders set id = 3; delete from orders",
    );
    const { rows } = await database.query("select table_name, operation from pgevents.change_events()");
    assert.deepEqual(rows, [{ table_name: "orders", operation: "I" }]);
  });

  test("tables by name: what is absent or cannot be captured is told by name, the rest is built", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(
      "create table orders (id integer primary key); create view v as select 1 as a; create materialized view m as select 1 as a",
    );
    const tables = ["orders", "absent", "v", "m"].map((name) => ({
      schema: "public",
      name,
      operations: [...OPERATIONS],
    }));
    const report = await build(database, { capture: { ...CAPTURE, tables } });
    assert.deepEqual(
      report.failures.map(({ where, code }) => [where, code]),
      [
        ["public.absent", "TableNotFound"],
        ["public.v", "TableNotSupported"],
        ["public.m", "TableNotSupported"],
      ],
    );
    assert.equal(report.tables, 1);
  });

  test("a table that belongs to somebody else is told as PermissionDenied; the others are built", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query("create table foreign_orders (id integer primary key)");
    await database.query("create schema mine; create table mine.orders (id integer primary key)");
    const report = await build(database);
    assert.deepEqual(
      report.failures.map(({ where, code }) => [where, code]),
      [["public.foreign_orders", "PermissionDenied"]],
    );
    assert.equal(report.tables, 1);
  });

  test("another source's capture is not touched, neither by build nor by uninstall", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    await build(database);
    const before = await traces(database);
    const other = { owner: "manifest:default/other" };
    assert.equal((await refused(build(database, other))).code, "PGE_OWNERSHIP_CONFLICT");
    assert.equal(
      (await refused(removeCapture(database.settings, { schemaName: "pgevents", ...other }))).reason,
      "OwnershipConflict",
    );
    assert.equal(await traces(database), before);
    const second = await build(database, { ...other, capture: { ...CAPTURE, schemaName: "second" } });
    assert.equal(second.tables, 1, "two captures of one table live side by side, and not of each other");
    await database.query("insert into orders values (1)");
    const { rows } = await database.query(
      "select (select count(*) from pgevents.change_events()) as a, (select count(*) from second.outbox) as b",
    );
    assert.deepEqual(rows, [{ a: "1", b: "1" }]);
  });

  test("a builder with an older epoch is refused", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await build(database, { epoch: 7 });
    assert.equal(
      (await refused(build(database, { epoch: 6, callbacks: ["a", "b"] }))).code,
      "PGE_STALE_BUILDER",
    );
    assert.equal((await build(database, { epoch: 8, callbacks: ["a", "b"] })).changed, true);
  });

  test("a worker's build of an older spec, or by an older version, does nothing", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await build(database);
    await build(database, { callbacks: ["a", "b"], version: "2.0.0" });
    for (const older of [{}, { callbacks: ["a", "b"] }]) {
      const stale = await buildCapture(database.settings, request(older), {
        mode: "apply",
        onlyIfCurrent: true,
      });
      assert.equal(stale.changed, false);
    }
    await database.query("create table orders (id integer primary key)");
    const current = request({ callbacks: ["a", "b"], version: "2.0.0" });
    assert.equal(
      (await buildCapture(database.settings, current, { mode: "apply", onlyIfCurrent: true })).changed,
      true,
    );
    const { rows } = await database.query(
      "select name, version from pgevents.callback, pgevents.installation order by name",
    );
    assert.deepEqual(rows, [
      { name: "a", version: "2.0.0" },
      { name: "b", version: "2.0.0" },
    ]);
  });
});
