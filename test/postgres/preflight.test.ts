/** What is found before a build, on a real server, and that the remedy that is told is one. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Finding } from "../../src/core/capture/findings.ts";
import { databaseFromUrl } from "../../src/core/settings/database.ts";
import { type BuildRequest, buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { connect, type TestDatabase, testDatabase, twoPhaseServer } from "../support/postgres.ts";

const OWNER = "manifest:default/test";

function look(
  database: Pick<TestDatabase, "settings">,
  changes: Partial<BuildRequest> = {},
  mode: "plan" | "apply" = "plan",
) {
  const request = { capture: captureSpec(), callbacks: ["a"], owner: OWNER, version: "1.0.0", ...changes };
  return buildCapture(database.settings, request, { mode });
}

const codes = (findings: readonly Finding[]) => findings.map(({ code, where }) => `${code} ${where}`);
const find = (findings: readonly Finding[], code: string) => {
  const found = findings.find((one) => one.code === code);
  assert.ok(found, `${code} among ${codes(findings).join(", ")}`);
  return found;
};
/** Follows a remedy that is SQL. */
const follow = (admin: { query(sql: string): Promise<unknown> }, { remedy }: Finding) =>
  admin.query(remedy ?? "");

describe("rights", () => {
  test("to create the schema: nothing is built, and the GRANT that is told is enough", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query(`alter database ${database.name} owner to current_user`);
    const { findings, actions } = await look(database);
    assert.deepEqual([actions, findings[0]?.code], [[], "SchemaNotAllowed"]);
    await assert.rejects(look(database, {}, "apply"), {
      code: "PGE_PERMISSION_DENIED",
      reason: "PermissionDenied",
    });
    await follow(admin, find(findings, "SchemaNotAllowed"));
    assert.equal((await look(database, {}, "apply")).failures.length, 0);
  });

  test("to make triggers: told by table before any is tried, with what is missing", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query(`
      create schema "Their own"; create table "Their own".t (id integer primary key);
      create table public.sales (region text, id integer, primary key (region, id)) partition by list (region);
      create table public."sales eu" partition of public.sales for values in ('eu');
      create table public.free (id integer primary key);
      grant trigger on public.free, public.sales to ${database.name}`);
    const first = await look(database, {}, "apply");
    assert.deepEqual(
      first.failures.map(({ where, remedy }) => [where, remedy]),
      [
        [
          "Their own.t",
          `grant usage on schema "Their own" to "${database.name}"; grant trigger on "Their own".t to "${database.name}";`,
        ],
        ["public.sales", `grant trigger on public."sales eu" to "${database.name}";`],
        ["public.sales eu", `grant trigger on public."sales eu" to "${database.name}";`],
      ],
    );
    assert.equal(first.tables, 1);
    for (const failure of first.failures) await follow(admin, failure);
    const second = await look(database, {}, "apply");
    assert.deepEqual([second.failures, second.tables], [[], 3]);
    assert.equal((await look(database)).changed, false, "TRIGGER is enough to make and replace them");
  });

  test("to drop triggers: the owner's; what cannot be dropped stays, and uninstall takes it along", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query(
      `create table public.t (id integer primary key); grant trigger on public.t to ${database.name}`,
    );
    await look(database, {}, "apply");
    const tables = [{ schema: "public", name: "t", operations: ["Insert" as const, "Update" as const] }];
    const capture = captureSpec({ tables });
    const { failures } = await look(database, { capture }, "apply");
    assert.deepEqual(codes(failures), ["PermissionDenied public.t"]);
    await follow(admin, find(failures, "PermissionDenied"));
    assert.deepEqual((await look(database, { capture }, "apply")).failures, []);
    await removeCapture(database.settings, { schemaName: "pgevents", owner: OWNER });
    const { rows } = await admin.query("select tgname from pg_trigger where not tgisinternal");
    assert.deepEqual(rows, []);
  });

  test("to make event triggers: Poll, and what that means; a superuser's build makes them once", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    const poll = await look(database, {}, "apply");
    assert.equal(poll.schemaChangeMode, "Poll");
    find(poll.findings, "SchemaChangesByPolling");
    const superuser = { settings: databaseFromUrl(database.superuserUrl, "a test") };
    assert.equal((await look(superuser, {}, "apply")).schemaChangeMode, "EventTrigger");
    const after = await look(database, {}, "apply");
    assert.deepEqual([after.schemaChangeMode, after.changed, after.failures], ["EventTrigger", false, []]);
  });

  test("on a capture that another role made: not readable, or not to be changed", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await database.query("create table orders (id integer primary key)");
    const superuser = { settings: databaseFromUrl(database.superuserUrl, "a test") };
    await look(superuser, {}, "apply");
    const unreadable = await look(database);
    assert.equal(unreadable.findings[0]?.code, "CaptureNotReadable");
    await assert.rejects(look(database, {}, "apply"), { code: "PGE_PERMISSION_DENIED" });
    await admin.query(`grant usage on schema pgevents to ${database.name}`);
    assert.equal((await look(database)).findings[0]?.code, "CaptureNotReadable", "its tables are not");
    await admin.query(`grant select on all tables in schema pgevents to ${database.name}`);
    const request = { callbacks: ["a", "b"] };
    assert.equal((await look(database, request)).findings[0]?.code, "SchemaNotAllowed");
    await assert.rejects(look(database, request, "apply"), { code: "PGE_PERMISSION_DENIED" });
  });
});

test("to let triggers fire for replication: the owner's", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const admin = await connect(t, database.superuserUrl);
  await admin.query(`
    create role "${database.name} owner"; create table public.t (id integer primary key);
    alter table public.t owner to "${database.name} owner"; grant trigger on public.t to ${database.name}`);
  const capture = captureSpec({ replicated: true });
  const { failures } = await look(database, { capture }, "apply");
  assert.deepEqual(codes(failures), ["PermissionDenied public.t"]);
  await follow(admin, find(failures, "PermissionDenied"));
  assert.deepEqual((await look(database, { capture }, "apply")).failures, []);
  await admin.query(`drop owned by "${database.name} owner" cascade; drop role "${database.name} owner"`);
});

describe("settings and the server", () => {
  test("limits of the role that hinder a worker, with the ALTER ROLE that takes them away", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query(`alter role ${database.name} set statement_timeout = '5s'`);
    await admin.query(`alter role ${database.name} set idle_session_timeout = '30s'`);
    await admin.query(`alter role ${database.name} connection limit 4`);
    const { findings } = await look(database);
    const warnings = findings.filter(({ severity }) => severity === "Warning");
    assert.deepEqual(codes(warnings), ["FewConnections server", "StatementTimeout role", "IdleTimeout role"]);
    assert.match(find(findings, "StatementTimeout").message, /5000 ms/);
    for (const code of ["StatementTimeout", "IdleTimeout"]) await follow(admin, find(findings, code));
    await admin.query(`alter role ${database.name} connection limit -1`);
    const after = (await look(database)).findings.filter(({ severity }) => severity === "Warning");
    assert.deepEqual(after, []);
  });

  test("a build is not ended by time limits of the role", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    const { rows } = await admin.query(
      "select name from pg_settings where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')",
    );
    for (const { name } of rows) await admin.query(`alter role ${database.name} set ${name} = '300ms'`);
    await database.query("create table a (id integer primary key); create table b (id integer primary key)");
    const locker = await connect(t, database.superuserUrl);
    await locker.query("begin; lock table a in share mode");
    const report = await buildCapture(
      { ...database.settings, lockTimeoutSeconds: 1 },
      { capture: captureSpec(), callbacks: ["a"], owner: OWNER, version: "1.0.0" },
      { mode: "apply" },
    );
    assert.deepEqual(codes(report.failures), ["LockTimeout public.a"]);
    assert.equal(report.tables, 1);
  });

  test("read-only by a setting, and as a replica", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const admin = await connect(t, database.superuserUrl);
    await admin.query(`alter role ${database.name} set default_transaction_read_only = on`);
    const { findings } = await look(database);
    assert.equal(findings[0]?.code, "DatabaseReadOnly");
    assert.match(findings[0]?.remedy ?? "", /default_transaction_read_only = off/);
    await assert.rejects(look(database, {}, "apply"), { code: "PGE_DATABASE_READ_ONLY" });
  });

  test("two-phase commit, settings of the server, and none of them where there is none", async (t) => {
    const without = await testDatabase(t);
    const noted = ({ findings }: { findings: readonly Finding[] }) => findings.map(({ code }) => code);
    assert.deepEqual(noted(await look(without)), []);
    const database = await testDatabase(t, { server: await twoPhaseServer(t) });
    const capture = captureSpec({
      context: { query: false, settings: ["app.user", "plpgsql.variable_conflict"] },
    });
    await database.query("load 'plpgsql'");
    const found = noted(await look(database, { capture }));
    assert.ok(found.includes("TwoPhaseCommit"), found.join());
  });
});

describe("tables", () => {
  test("without a key, unlogged, with row-level security, that a subscription writes to", async (t) => {
    const database = await testDatabase(t);
    await database.query(`
      create table keyless (a integer); create unlogged table fast (id integer primary key);
      create table guarded (id integer primary key); alter table guarded enable row level security;
      create table copied (id integer primary key)`);
    await database.query(`
      create subscription copy connection 'host=127.0.0.1 port=1' publication p with (connect = false, slot_name = none)`);
    await database.query(`
      set allow_system_table_mods = on;
      insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
      select oid, 'copied'::regclass, 'r' from pg_subscription where subname = 'copy'`);
    const { findings } = await look(database, {}, "apply");
    assert.match(find(findings, "NoKey").message, /^public\.keyless: /);
    assert.match(find(findings, "Unlogged").message, /^public\.fast: /);
    assert.match(find(findings, "RowSecurity").message, /^public\.guarded: /);
    const { message, remedy } = find(findings, "ReplicatedTable");
    assert.deepEqual([message.slice(0, 15), remedy], ["public.copied: ", "spec.capture.replicated: true"]);
    const always = await look(database, { capture: captureSpec({ replicated: true }) }, "apply");
    assert.ok(!codes(always.findings).some((one) => one.startsWith("ReplicatedTable")));
    await database.query("drop subscription copy"); // or the database could not be dropped
  });
});
