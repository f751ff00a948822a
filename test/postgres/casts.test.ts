/** Whose functions capture runs: casts to json of users' types, with whose rights, and where not at all. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import pg from "pg";
import { captureNames } from "../../src/core/capture/names.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { schemaFingerprint } from "../../src/postgres/schema-watch.ts";
import { captured } from "../support/capture-scene.ts";
import { connect, ownServer, type TestDatabase, type TestEnd } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const OPERATIONS = ["Insert" as const, "Update" as const, "Delete" as const, "Truncate" as const];

/** What `current_user` is where the function runs is told in a notice; it tries to become a superuser. */
const CAST = (role: string) => `
  create function json_of(mood) returns json language plpgsql as $$ begin
    raise notice 'as %', current_user;
    begin
      execute 'alter role ${role} superuser';
    exception when insufficient_privilege then null;
    end;
    return to_json(current_user::text);
  end $$;
  create cast (mood as json) with function json_of(mood)`;

/** A session of a role that may create tables, dropped after the test; with what it was told. */
async function stranger(t: TestEnd, { superuserUrl, name }: TestDatabase) {
  const role = `writer_${name}`;
  const admin = await connect(t, superuserUrl);
  const app = await connect(t, superuserUrl);
  const notices: string[] = [];
  app.on("notice", ({ message }) => notices.push(message ?? ""));
  await admin.query(`create role ${role}; grant create on schema public to ${role}`);
  t.after(async () => {
    const server = new pg.Client({ connectionString: superuserUrl.replace(/[^/]+$/, "postgres") });
    await server.connect();
    await server.query(`drop role ${role}`); // after the database, which this hook was registered after
    await server.end();
  });
  await app.query(`set session authorization ${role}; create type mood as enum ('a')`);
  const isSuperuser = async () =>
    (await admin.query("select rolsuper from pg_roles where rolname = $1", [role])).rows[0]?.rolsuper ===
    true;
  return { role, admin, app, notices, isSuperuser };
}

describe("a cast to json of another role's type", () => {
  test("a table with such a column is left out, at once where event triggers are; named, it is an error", async (t) => {
    const scene = await captured(t, "", { owner: false });
    const { role, app, notices, isSuperuser } = await stranger(t, scene);
    await app.query(`${CAST(role)}; create table mine (id integer primary key, v mood)`);
    await app.query("insert into mine values (1, 'a')");
    const every = await scene.build();
    const finding = every.findings.find(({ code }) => code === "UnsafeCastSkipped");
    assert.equal(finding?.where, "public.mine");
    assert.match(
      finding?.message ?? "",
      new RegExp(`public.mood .* public.json_of\\(public.mood\\) of role ${role}`),
    );
    const named = await scene.build({ tables: [{ schema: "public", name: "mine", operations: OPERATIONS }] });
    assert.deepEqual(
      named.failures.map(({ code, where }) => [code, where]),
      [["UnsafeCast", "public.mine"]],
    );
    await app.query("insert into mine values (2, 'a')");
    assert.deepEqual([await scene.lines(), notices, await isSuperuser()], [[], [], false]);
    await app.query("drop cast (mood as json)");
    assert.deepEqual((await scene.build()).failures, []);
    await app.query("insert into mine values (3, 'a')");
    assert.deepEqual(await scene.lines(), ["Insert mine [3]"]);
  });

  test("that comes after the table was captured, in whatever its columns are made of: let go at once", async (t) => {
    const scene = await captured(t, "", { owner: false });
    const { role, app, notices, isSuperuser } = await stranger(t, scene);
    await app.query(`
      create type wrapped as (v mood[]); create type grows as (n integer); create domain checked as mood check (value = 'a');
      create type span as range (subtype = mood, multirange_type_name = spans); create table other (v mood)`);
    const columns = ["mood", "mood[]", "wrapped", "grows", "checked", "span", "spans", "other", "integer"];
    const insert = () => app.query(columns.map((_, index) => `insert into t${index} values (1);`).join(" "));
    for (const [index, column] of columns.entries())
      await app.query(`create table t${index} (id integer, v ${column})`);
    await insert();
    assert.equal((await scene.lines()).length, columns.length);
    await app.query(CAST(role));
    await app.query("alter type grows add attribute v mood; alter table t8 add column w mood");
    for (const [index, column] of columns.entries())
      assert.ok(notices.includes(`pg-events does not capture public.t${index} any more`), column);
    await insert();
    assert.deepEqual([await scene.lines(), await isSuperuser()], [[], false]);
  });

  test("without event triggers: the worker's look sees it, and the build lets the table go", async (t) => {
    const scene = await captured(t, "create table mine (id integer primary key)", { owner: true });
    const { role, app } = await stranger(t, scene);
    const pool = createPool(scene.settings, "worker", 1);
    t.after(() => pool.end());
    const look = () => schemaFingerprint(pool);
    await scene.query("alter table mine add column v mood");
    await scene.build();
    const before = await look();
    await app.query(CAST(role));
    assert.notEqual(await look(), before);
    const report = await scene.build();
    assert.deepEqual([report.tables, report.changed], [0, true]);
    await scene.query("insert into mine values (1, 'a')");
    assert.deepEqual(await scene.lines(), []);
  });

  test("of a role that capture trusts: a superuser, the owner of capture, and who has the owner's rights", async (t) => {
    for (const who of ["superuser", "owner", "member"] as const) {
      const scene = await captured(t, "", { owner: true });
      const { role, admin, app } = await stranger(t, scene);
      await app.query(
        `${CAST(role)}; create table mine (id integer primary key, v mood); grant all on mine to public`,
      );
      await admin.query(`alter table mine owner to ${scene.name}`);
      assert.equal((await scene.build()).tables, 0);
      if (who === "member") await admin.query(`grant ${scene.name} to ${role}`);
      else
        await admin.query(
          `alter function json_of(mood) owner to ${who === "owner" ? scene.name : "current_user"}`,
        );
      assert.equal((await scene.build()).tables, 1, who);
      await scene.query("insert into mine values (1, 'a')");
      const [event] = await scene.told();
      assert.deepEqual(JSON.parse(event?.new ?? ""), { id: 1, v: scene.name });
    }
  });
});

describe("capture of a superuser", () => {
  const confined = async (query: TestDatabase["query"]) => {
    const { rows } = await query(
      "select distinct proowner::regrole::text as owner from pg_proc where pronamespace = 'pgevents'::regnamespace and prorettype = 'trigger'::regtype",
    );
    return rows.map(({ owner }) => owner);
  };

  test("what runs in a write has no rights but to append: a cast that comes unnoticed gets none", async (t) => {
    const scene = await captured(t, "", { owner: false, schemaChanges: "Poll" });
    const { role, app, notices, isSuperuser } = await stranger(t, scene);
    await app.query("create table mine (id integer primary key, v mood)");
    await scene.build();
    await app.query(CAST(role));
    await app.query("insert into mine values (1, 'a')");
    assert.deepEqual([notices, await isSuperuser()], [["as pgevents_capture"], false]);
    for (const statement of [
      "select old from pgevents.outbox",
      "delete from pgevents.outbox",
      "select rolpassword from pg_authid",
    ]) {
      await scene.query(`set role pgevents_capture`);
      await assert.rejects(scene.query(statement), { code: "42501" }, statement);
      await scene.query("reset role");
    }
    assert.equal((await scene.build()).tables, 0);
  });

  test("everything is captured all the same, rights that were taken come back, and nothing is left in the end", async (t) => {
    const entry = { schema: "public", operations: OPERATIONS };
    const scene = await captured(
      t,
      `create table plain (id integer primary key, at timestamptz, n float8);
      create table ruled (id integer primary key, secret text);
      create table parts (id integer primary key) partition by range (id); create table part partition of parts default;
      create table nested (id integer primary key, n integer);
      create function next() returns trigger language plpgsql as $$ begin
        update nested set n = n + 1 where id = new.id + 1; return null;
      end $$;
      create trigger next after insert on nested for each row execute function next()`,
      {
        owner: false,
        onError: "Skip",
        tables: [
          { ...entry, name: "*" },
          { ...entry, name: "ruled", columns: { hash: ["secret"] }, updateColumns: ["secret"] },
        ],
      },
    );
    assert.deepEqual(await confined(scene.query), ["pgevents_capture"]);
    const write = async () => {
      await scene.query(`
        insert into plain values (1, now(), 1); update plain set n = 2; delete from plain; truncate plain;
        insert into ruled values (1, 'x'); update ruled set secret = 'y'; delete from ruled;
        insert into parts values (1); delete from parts;
        insert into nested values (1, 0), (2, 0); delete from nested where id = 1; delete from nested`);
      assert.deepEqual(await scene.lines(), [
        ...["Insert plain [1]", "Update plain [1]", "Delete plain [1]", "Truncate plain"],
        ...[
          "Insert ruled [1]",
          "Update ruled [1]",
          "Delete ruled [1]",
          "Insert parts [1]",
          "Delete parts [1]",
        ],
        ...[
          "Insert nested [1]",
          "Insert nested [2]",
          "Update nested [2]",
          "Delete nested [1]",
          "Delete nested [2]",
        ],
      ]);
    };
    await write();
    await scene.query(`
      revoke all on all tables in schema pgevents from pgevents_capture;
      revoke all on all sequences in schema pgevents from pgevents_capture;
      revoke all on all functions in schema pgevents from pgevents_capture;
      alter function pgevents.capture_row() owner to current_user`);
    assert.equal((await scene.build()).changed, true);
    assert.deepEqual(await confined(scene.query), ["pgevents_capture"]);
    assert.equal((await scene.build()).changed, false);
    await removeCapture(scene.settings, {
      schemaName: captureNames("pgevents").schemaName,
      owner: "manifest:default/test",
    });
    const { rows } = await scene.query(
      "select from pg_shdepend where dbid = (select oid from pg_database where datname = current_database()) and refobjid = to_regrole('pgevents_capture')",
    );
    assert.deepEqual(rows, []);
  });

  test("the role is made again when another capture's removal drops it meanwhile", async (t) => {
    const server = await ownServer(t);
    const scene = await captured(t, "create table plain (id integer primary key)", { owner: false, server });
    const { schemaName } = captureNames("pgevents");
    await removeCapture(scene.settings, { schemaName, owner: "manifest:default/test" });
    const other = await connect(t, server.url);
    await other.query("create role pgevents_capture");
    await other.query("begin; drop role pgevents_capture");
    const built = scene.build();
    await eventually(async () => {
      const { rows } = await scene.query("select from pg_stat_activity where wait_event_type = 'Lock'");
      return rows.length === 1;
    });
    await other.query("commit");
    await built;
    assert.deepEqual(await confined(scene.query), ["pgevents_capture"]);
    await scene.query("insert into plain values (1)");
    assert.deepEqual(await scene.lines(), ["Insert plain [1]"]);
  });

  test("it is an ordinary role's as soon as the outbox is", async (t) => {
    const scene = await captured(t, "create table plain (id integer primary key)", { owner: false });
    const { role, admin } = await stranger(t, scene);
    await admin.query(`alter schema pgevents owner to ${role}; alter table pgevents.outbox owner to ${role}`);
    await scene.build();
    assert.deepEqual(await confined(scene.query), [role]);
    await scene.query("insert into plain values (1)");
    assert.deepEqual(await scene.lines(), ["Insert plain [1]"]);
  });
});
