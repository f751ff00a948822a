import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { captured, images } from "../support/capture-scene.ts";
import { connect, serverMajor } from "../support/postgres.ts";

describe("capture", () => {
  test("insert, update, delete and truncate, with images and keys; an update of the key has both", async (t) => {
    const { query, told } = await captured(t, "create table orders (id integer primary key, note text)");
    await query(
      "insert into orders values (1, 'a'); update orders set id = 2; delete from orders; truncate orders",
    );
    const events = await told();
    assert.deepEqual(
      events.map(({ operation, schema, table, key, oldKey }) => [operation, schema, table, key, oldKey]),
      [
        ["Insert", "public", "orders", "[1]", null],
        ["Update", "public", "orders", "[2]", "[1]"],
        ["Delete", "public", "orders", "[2]", null],
        ["Truncate", "public", "orders", null, null],
      ],
    );
    const [one, two] = ['{"id":1,"note":"a"}', '{"id":2,"note":"a"}'];
    assert.deepEqual(images(events), [`I ${one}`, `U ${one} ${two}`, `D ${two}`, "T"]);
  });

  test("a statement that touches no row writes nothing", async (t) => {
    const { query, lines } = await captured(t, "create table orders (id integer primary key)");
    await query("update orders set id = 1; delete from orders; insert into orders select 1 where false");
    assert.deepEqual(await lines(), []);
  });

  test("composite keys, in key order, with text that needs escapes; tables without a key", async (t) => {
    const { query, lines } = await captured(
      t,
      "create table pairs (b integer, a text, primary key (a, b)); create table loose (a integer)",
    );
    await query(`insert into pairs values (1, 'q"\\é'); insert into loose values (1)`);
    assert.deepEqual(await lines(), ['Insert pairs ["q\\"\\\\é",1]', "Insert loose"]);
  });

  test("old and new rows of a large update are paired, also right after a small one in the same session", async (t) => {
    const { query, told } = await captured(t, "create table orders (id integer primary key, n integer)");
    await query("insert into orders select i, i from generate_series(1, 30000) as i");
    for (let round = 0; round < 7; round += 1) await query("update orders set n = n + 1 where id = 1"); // plans are cached for one row
    await told();
    await query("update orders set n = -n");
    const pairs = images(await told());
    assert.equal(pairs.length, 30_000);
    for (const pair of pairs) assert.match(pair, /^U \{"id":(\d+),"n":(\d+)\} \{"id":\1,"n":-\2\}$/);
  });

  test("numbers and timestamps keep every digit", async (t) => {
    const database = await captured(
      t,
      "create table facts (id bigint primary key, n numeric, at timestamptz)",
    );
    await database.query(
      "insert into facts values (9007199254740993, 12345678901234567890.123456789, '2026-01-02 03:04:05.678901+00')",
    );
    const [event] = await database.told();
    assert.equal(event?.key, "[9007199254740993]");
    assert.match(event?.new ?? "", /12345678901234567890\.123456789/);
    assert.match(event?.new ?? "", /05\.678901/);
  });

  test("a column that is added, renamed or dropped fails no write, a key column neither", async (t) => {
    const database = await captured(t, "create table orders (id integer primary key, note text)");
    await database.query("insert into orders values (1, 'a')");
    await database.query(
      "alter table orders add column total integer; insert into orders values (2, 'b', 3)",
    );
    await database.query("alter table orders drop column note; insert into orders values (3, 4)");
    await database.query("alter table orders rename column id to number; insert into orders values (5, 6)");
    assert.deepEqual(
      (await database.told()).map(({ key, new: now }) => [key, JSON.parse(now ?? "")]),
      [
        ["[1]", { id: 1, note: "a" }],
        ["[2]", { id: 2, note: "b", total: 3 }],
        ["[3]", { id: 3, total: 4 }],
        [null, { number: 5, total: 6 }],
      ],
    );
  });

  test("upsert, writable CTE and cascades are captured row by row", async (t) => {
    const database = await captured(
      t,
      "create table parents (id integer primary key); create table children (id integer primary key, parent integer references parents on delete cascade)",
    );
    await database.query("insert into parents values (1), (2); insert into children values (1, 1), (2, 1)");
    await database.query(
      "insert into parents values (2), (3) on conflict (id) do update set id = excluded.id",
    );
    await database.query(
      "with gone as (delete from parents where id = 1 returning id) insert into parents select id + 10 from gone",
    );
    assert.deepEqual((await database.lines()).sort(), [
      "Delete children [1]",
      "Delete children [2]",
      "Delete parents [1]",
      "Insert children [1]",
      "Insert children [2]",
      "Insert parents [11]",
      "Insert parents [1]",
      "Insert parents [2]",
      "Insert parents [3]",
      "Update parents [2]",
    ]);
  });

  test("each action of one MERGE is captured, old and new rows side by side", async (t) => {
    const database = await captured(t, "create table orders (id integer primary key, n integer)");
    if ((await serverMajor(database)) < 15) return; // has no MERGE
    await database.query("insert into orders select i, i from generate_series(1, 6) as i");
    await database.told();
    await database.query(`merge into orders using generate_series(1, 8) as wanted (id) on orders.id = wanted.id
      when matched and wanted.id < 3 then delete
      when matched then update set id = orders.id + 100, n = -n
      when not matched then insert values (wanted.id, 0)`);
    assert.deepEqual(images(await database.told()).sort(), [
      ...[1, 2].map((id) => `D {"id":${id},"n":${id}}`),
      ...[7, 8].map((id) => `I {"id":${id},"n":0}`),
      ...[3, 4, 5, 6].map((id) => `U {"id":${id},"n":${id}} {"id":${id + 100},"n":${-id}}`),
    ]);
  });

  test("generated columns: stored ones are in the events, virtual ones are null", async (t) => {
    const kinds = ["stored", "virtual"];
    const database = await captured(t, "create table orders (id integer primary key)");
    const major = await serverMajor(database);
    for (const kind of major < 18 ? kinds.slice(0, 1) : kinds) {
      await database.query(
        `alter table orders add column twice integer generated always as (id * 2) ${kind}; insert into orders values (1)`,
      );
      const event = (await database.told()).at(-1);
      assert.deepEqual(JSON.parse(event?.new ?? ""), { id: 1, twice: kind === "stored" ? 2 : null });
      await database.query("delete from orders; alter table orders drop column twice");
    }
  });

  test("a writer needs no right on the capture schema, and gets none", async (t) => {
    const database = await captured(t, "create table orders (id integer primary key)");
    const admin = await connect(t, database.superuserUrl);
    const role = `writer_${database.name}`;
    t.after(async () => {
      const server = await connect(t, database.superuserUrl.replace(/[^/]+$/, "postgres"));
      await server.query(`drop role ${role}`);
      await server.end();
    });
    await admin.query(`create role ${role}; grant insert on orders to ${role}; set role ${role}`);
    await admin.query("insert into orders values (1)");
    await assert.rejects(admin.query("select from pgevents.outbox"), { code: "42501" });
    await assert.rejects(admin.query("select pgevents.read_fresh('1:1:', 1, 1)"), { code: "42501" });
    await admin.query("reset role");
    assert.equal((await database.lines()).length, 1);
  });

  test("a user's function in public with the name of ours is not run with our rights", async (t) => {
    const database = await captured(t, "create table orders (id integer primary key)");
    await database.query(
      "create function public.row_to_json(record) returns json language plpgsql as $$ begin raise exception 'hijacked'; end $$",
    );
    await database.query(
      "create function public.pg_try_advisory_xact_lock_shared(integer, integer) returns boolean language plpgsql as $$ begin raise exception 'hijacked'; end $$",
    );
    await database.query("set search_path = public, pg_catalog; insert into orders values (1)");
    assert.equal((await database.lines()).length, 1);
  });

  test("G3 no NOTIFY is sent while the worker is awake, and one when it sleeps", async (t) => {
    const database = await captured(t, "create table orders (id integer primary key)");
    const { channel, wakeLock } = captureNames("pgevents");
    const worker = await connect(t, database.url);
    const heard: string[] = [];
    worker.on("notification", (message) => heard.push(message.channel));
    await worker.query(`listen ${channel}`);
    await database.query("insert into orders values (1)");
    await worker.query("select 1");
    assert.deepEqual(heard, [], "awake");
    await worker.query("select pg_advisory_lock($1, $2)", [...wakeLock]);
    await database.query("insert into orders values (2)");
    await worker.query("select 1");
    assert.deepEqual(heard, [channel], "asleep");
  });
});
