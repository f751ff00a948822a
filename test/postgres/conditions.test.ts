/** `when`: which changes are captured, and what a condition may be. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { captured } from "../support/capture-scene.ts";
import { tableSpec } from "../support/capture-spec.ts";
import { connect, serverMajor, testDatabase } from "../support/postgres.ts";

type When = NonNullable<NonNullable<CaptureSpec["tables"]>[number]["when"]>;

const ORDERS = "create table orders (id integer primary key, total numeric, status text)";
/** A table that is not there. */
const NOTHING = { tables: [tableSpec({ name: "none" })] };
const when = (conditions: When, name = "orders") => ({ tables: [tableSpec({ name, when: conditions })] });

describe("when", () => {
  test("G7 chooses changes by operation, with the row before and after", async (t) => {
    const { query, lines, build } = await captured(
      t,
      ORDERS,
      when({
        insert: "new.total > 100",
        update: "old.status is distinct from new.status",
        delete: "old.status = 'paid'",
      }),
    );
    assert.equal((await build()).changed, false);
    await query("insert into orders values (1, 100, 'new'), (2, 101, 'new'), (3, null, 'new')");
    await query("update orders set total = 7 where id = 1; update orders set status = 'paid' where id <= 2");
    await query("delete from orders; truncate orders");
    assert.deepEqual(await lines(), [
      "Insert orders [2]",
      "Update orders [1]",
      "Update orders [2]",
      "Delete orders [1]",
      "Delete orders [2]",
      "Truncate orders",
    ]);
  });

  test("of one operation leaves the others as they are; taken away, triggers are per statement again", async (t) => {
    const { query, lines, build } = await captured(t, ORDERS, when({ insert: "new.total > 100" }));
    const byRow = async () => {
      const ours = "tgfoid in (select oid from pg_proc where pronamespace = 'pgevents'::regnamespace)";
      const { rows } = await query<{ by_row: boolean }>(
        `select distinct tgtype::integer & 1 = 1 as by_row from pg_trigger
        where tgrelid = 'orders'::regclass and ${ours} and tgtype::integer & 32 = 0`, // but for TRUNCATE
      );
      return rows.map((row) => row.by_row);
    };
    await query("insert into orders values (1, 1); update orders set total = 2");
    assert.deepEqual(await lines(), ["Update orders [1]"]);
    assert.deepEqual(await byRow(), [true]);
    await build({ tables: [tableSpec({ name: "orders" })] });
    assert.deepEqual(await byRow(), [false]);
    await query("insert into orders values (2, 1)");
    assert.deepEqual(await lines(), ["Insert orders [2]"]);
  });

  test("G4 another text replaces the triggers in one transaction, without a moment with neither", async (t) => {
    const scene = await captured(t, ORDERS, when({ insert: "new.id % 2 = 0" }));
    const writer = await connect(t, scene.url);
    let id = 2;
    let writing = true;
    const writes = (async () => {
      for (; writing; id += 2) await writer.query("insert into orders values ($1)", [id]);
    })();
    for (const text of ["new.id % 2 = 0 and true", "(new.id % 2 = 0)", "mod(new.id, 2) = 0"]) {
      const report = await scene.build(when({ insert: text }));
      assert.deepEqual([report.changed, report.failures], [true, []], text);
      assert.equal((await scene.build(when({ insert: text }))).changed, false, text);
    }
    writing = false;
    await writes;
    assert.equal((await scene.lines()).length, id / 2 - 1);
    await scene.build(when({ insert: "new.id % 2 = 1" }));
    await scene.query(`insert into orders values (${id + 2}), (${id + 3})`);
    assert.deepEqual(await scene.lines(), [`Insert orders [${id + 3}]`]);
  });

  test("goes on when a column is renamed, and the build says that the text names one that is not there", async (t) => {
    for (const owner of [true, false]) {
      const spec = when({ insert: "new.total > 100" });
      const { query, lines, build } = await captured(
        t,
        `${ORDERS}; create table other (id integer primary key)`,
        {
          owner,
          ...spec,
        },
      );
      await query("alter table orders rename column total to amount");
      await query("insert into orders values (1, 100), (2, 101)");
      assert.deepEqual(await lines(), ["Insert orders [2]"]);
      const { failures } = await build(spec);
      assert.deepEqual(
        failures.map(({ code, where, message }) => [code, where, message]),
        [["ConditionInvalid", "public.orders", "public.orders: column new.total does not exist."]],
      );
      await query("insert into orders values (3, 100), (4, 101)");
      assert.deepEqual(await lines(), ["Insert orders [4]"]);
      assert.deepEqual((await build(when({ insert: "new.amount > 100" }))).failures, []);
    }
  });

  test("PostgreSQL keeps a column that it names from being dropped or changed", async (t) => {
    const { query } = await captured(t, ORDERS, when({ insert: "new.total > 100" }));
    await assert.rejects(
      query("alter table orders drop column total"),
      /cannot drop column total of table orders/,
    );
    await assert.rejects(
      query("alter table orders alter column total type text"),
      /cannot alter type of a column used in a trigger definition/,
    );
    await query("alter table orders drop column status");
  });

  test("of partitioned tables, whichever is written to, and of partitions that come", async (t) => {
    const { query, lines } = await captured(
      t,
      `create table orders (id integer primary key, total numeric) partition by range (id);
      create table orders_1 partition of orders for values from (0) to (100)`,
      when({ insert: "new.total > 100", update: "new.total > 100" }),
    );
    await query("create table orders_2 partition of orders for values from (100) to (200)");
    await query("insert into orders values (1, 1), (2, 101), (101, 1), (102, 101)");
    await query("insert into orders_1 values (3, 101); update orders_2 set total = total * 2");
    assert.deepEqual(await lines(), [
      "Insert orders [2]",
      "Insert orders [102]",
      "Insert orders [3]",
      "Update orders [102]",
    ]);
  });

  test("of a table that comes later, by event triggers", async (t) => {
    const scene = await captured(t, "", { owner: false, ...when({ insert: "new.total > 100" }) });
    await scene.query(`${ORDERS}; insert into orders values (1, 100), (2, 101)`);
    assert.deepEqual(await scene.lines(), ["Insert orders [2]"]);
    assert.equal((await scene.build()).actions.filter(({ kind }) => kind === "SetTriggers").length, 0);
    await scene.query(
      "drop table orders; create table orders (id integer primary key); insert into orders values (1)",
    );
    assert.deepEqual(await scene.lines(), [], "it lacks the column, and the command does not fail for that");
    const { failures } = await scene.build();
    assert.deepEqual(
      failures.map(({ code }) => code),
      ["ConditionInvalid"],
    );
    const { rows } = await scene.query(
      "select from pgevents.outbox where operation = 'S' and table_name = 'orders'",
    );
    assert.ok(rows.length >= 3, "changes of the table are told in any case");
  });

  test("over enums, domains, arrays, JSON, composites and generated columns; one that fails fails the write", async (t) => {
    const { query, lines, build } = await captured(
      t,
      `create type state as enum ('new', 'paid'); create domain positive as integer check (value > 0);
      create type address as (city text, street text);
      create table orders (id integer primary key, state state, n positive, tags text[], doc jsonb, home address,
        twice integer generated always as (n * 2) stored)`,
      when({
        insert:
          "new.state = 'paid' and new.n > 1 and 'a' = any (new.tags) and new.doc ->> 'b' = 'c' and (new.home).city = 'Ulm' and new.twice = 4",
        update: "100 / (new.n - 1) > 0",
      }),
    );
    assert.deepEqual((await build()).failures, []);
    const row = (id: number, state: string) => `(${id}, '${state}', 2, '{a,b}', '{"b": "c"}', '(Ulm,)')`;
    await query(`insert into orders values ${row(1, "paid")}, ${row(2, "new")}`);
    assert.deepEqual(await lines(), ["Insert orders [1]"]);
    await assert.rejects(query("update orders set n = 1 where id = 1"), /division by zero/);
    await query("update orders set n = 3 where id = 1");
    assert.deepEqual(await lines(), ["Update orders [1]"]);
  });

  test("names and texts full of quotes", async (t) => {
    const names = ["n", 'a"b', "c'd", "e;f", "g--h", "/*", "new", "old.x", "ü 🦉", "x".repeat(63)];
    const quoted = names.map((name) => `"${name.replaceAll('"', '""')}"`);
    const text = quoted
      .map((name) => `new.${name} in ('it''s', '--', '/*', ';', ')', '(', 'ü🦉')`)
      .join("\n or ");
    assert.ok(text.length <= 1024);
    const spec = when({ insert: text }, "hostile");
    const { query, told, build } = await captured(
      t,
      `create table hostile (id integer, ${quoted.map((name) => `${name} text`).join(", ")})`,
      spec,
    );
    assert.equal((await build()).changed, false);
    for (const value of ["it''s", "--", "ü🦉", "none"])
      await query(`insert into hostile (${quoted[1]}) values ('${value}')`);
    assert.equal((await told()).length, 3);
    const long = when({ insert: `new.id = 1${" or new.id = 7".repeat(72)}${" ".repeat(6)}` }, "hostile");
    assert.equal(long.tables[0]?.when?.insert?.length, 1024);
    assert.deepEqual((await build(long)).failures, []);
  });
});

/** Texts that PostgreSQL or the build refuses, and what is said. */
const REFUSED: readonly (readonly [insert: string, reason: RegExp])[] = [
  ["random() > 0.5", /uses random\(\)/],
  ["nextval('public.s') > 0", /uses nextval\(regclass\)/],
  ["set_config('a.b', 'c', false) is null", /uses set_config\(/],
  ["pg_sleep(1) is null", /uses pg_sleep\(/],
  ["lo_create(1) > 0", /uses lo_create\(oid\)/],
  ["pg_notify('a', 'b') is null", /uses pg_notify/],
  ["pg_advisory_lock(1) is null", /uses pg_advisory_lock/],
  ["query_to_xml('select 1', true, true, '') is null", /uses query_to_xml/],
  ["table_to_xml('public.orders', true, true, '') is null", /uses table_to_xml/],
  ["ts_rewrite('a'::tsquery, 'select 1') is null", /uses ts_rewrite\(tsquery,text\)/],
  ["domain_in('1', 1, -1) is null", /uses domain_in/],
  ["record_in('(1)', 1, -1) is null", /uses record_in/],
  ["pg_read_file('/etc/passwd') is null", /uses pg_read_file\(text\)/],
  ["current_setting('a.b', true) = 'x' and clock_timestamp() > now()", /uses clock_timestamp\(\)/],
  ["new.id in (select 1)", /cannot use subquery/],
  ["exists (select from pg_class)", /cannot use subquery/],
  ["count(*) > 1", /aggregate functions are not allowed/],
  ["row_number() over () = 1", /window functions are not allowed/],
  ["generate_series(1, 2) = 1", /set-returning functions are not allowed/],
  ["new.xmin is not null", /uses a system column/],
  ["new.tableoid = 1", /uses a system column/],
  ["new.ctid is not null or old.id = 1", /cannot reference OLD values/],
  ["new.nothing = 1", /column new\.nothing does not exist/],
  ["nothing(new.id) = 1", /function nothing\(integer\) does not exist/],
  ["evil(new.id)", /function evil\(integer\) does not exist/],
  ["new.id @@@ 1", /operator does not exist/],
  ["new.id", /must be type boolean/],
  ["new.id = 'x'", /invalid input syntax for type integer: "x"/],
  ["true execute function x", /syntax error/],
  ["true, false", /syntax error/],
];

describe("a condition that is refused", () => {
  test("names the table and the reason; other tables are built, and nothing is left half-made", async (t) => {
    const { query, lines, build } = await captured(
      t,
      `${ORDERS}; create table other (id integer primary key); create sequence s;
      create function evil(integer) returns boolean language sql immutable as 'select true';
      create function evil(integer, integer) returns boolean language sql immutable as 'select true';
      create operator @@@ (function = evil, leftarg = integer, rightarg = integer)`,
      { tables: [tableSpec({ name: "other" })] },
    );
    for (const [insert, reason] of REFUSED) {
      const { failures, tables } = await build({
        tables: [tableSpec({ name: "orders", when: { insert } }), tableSpec({ name: "other" })],
      });
      assert.deepEqual(
        failures.map(({ code, where }) => [code, where]),
        [["ConditionInvalid", "public.orders"]],
        insert,
      );
      assert.match(failures[0]?.message ?? "", reason, insert);
      assert.match(failures[0]?.message ?? "", /^public\.orders: /);
      assert.equal(tables, 1);
    }
    await query("insert into orders values (1); update orders set total = 1; insert into other values (1)");
    assert.deepEqual(await lines(), ["Insert other [1]"]);
  });

  test("what users wrote for their types is not run: operators, casts, domains, ranges, casts to json", async (t) => {
    const { query, build } = await captured(
      t,
      `create table ran (by_role text);
      create function spy(text) returns boolean language plpgsql as $$ begin insert into ran values (current_user); return true; end $$;
      create domain watched as text check (spy(value));
      create type pair as (a watched, b integer);
      create type span as range (subtype = watched);
      create type told as enum ('a');
      create function to_int(told) returns integer language plpgsql as $$ begin perform spy('x'); return 1; end $$;
      create function to_doc(told) returns json language plpgsql as $$ begin perform spy('x'); return 'null'; end $$;
      create cast (told as integer) with function to_int(told) as implicit;
      create table of_domain (v watched); create table of_array (v watched[]); create table of_pair (v pair);
      create table of_span (v span); create table of_pairs (v pair[]); create table of_told (v told)`,
      NOTHING,
    );
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ["of_domain", "new.v = 'x'", /functions of users \(public\.watched\)/],
      ["of_array", "new.v = '{x}'", /functions of users \(public\.watched\)/],
      ["of_pair", "coalesce(new.v, '(x,1)') is null", /functions of users \(public\.watched\)/],
      ["of_span", "new.v = '[a,b]'", /functions of users \(public\.watched\)/],
      ["of_pairs", "new.v = '{}'", /functions of users \(public\.watched\)/],
      ["of_told", "new.v = 1", /uses public\.to_int\(public\.told\)/],
    ];
    for (const [name, insert, reason] of cases) {
      const { failures } = await build(when({ insert }, name));
      assert.match(failures.map(({ message }) => message).join(), reason, `${name}: ${insert}`);
    }
    await query("create cast (told as json) with function to_doc(told)");
    const { failures } = await build(when({ insert: "to_json(new.v) is null" }, "of_told"));
    assert.match(failures[0]?.message ?? "", /functions of users \(public\.told\)/);
    assert.deepEqual((await query("select * from ran")).rows, []);
  });

  test("a comparison of rows and expressions of JSON are looked through as well", async (t) => {
    const scene = await captured(t, ORDERS, NOTHING);
    const cases: [string, RegExp | null][] = [
      ["(new.id, new.total) < (1, random())", /uses random\(\)/],
      ["greatest(new.total, random()::numeric) > 1", /uses random\(\)/],
      ["array[new.id]::text[] = '{1}' and new.id = any (array[1, 2])", null],
      ["(new.id, new.total) < (1, 2) and greatest(new.total, 1) > 0", null],
      ["xmlelement(name a, new.id) is not null", null],
      ["current_date > '2020-01-01' and current_user <> 'x'", null],
    ];
    if ((await serverMajor(scene)) >= 16) {
      cases.push(["json_array(random()) is not null", /uses random\(\)/]);
      cases.push(["json_object('a': new.id) is not null", null]);
      cases.push(["pg_input_is_valid('1', 'integer')", /uses pg_input_is_valid/]);
    }
    for (const [insert, reason] of cases) {
      const { failures } = await scene.build(when({ insert }));
      if (reason === null) assert.deepEqual(failures, [], insert);
      else assert.match(failures[0]?.message ?? "", reason, insert);
    }
  });

  test("a function that not everybody may call is none for a condition", async (t) => {
    const database = await testDatabase(t);
    const scene = await captured(t, ORDERS, { owner: false, ...NOTHING });
    await scene.query("revoke execute on function pg_catalog.md5(text) from public");
    const { failures } = await scene.build(when({ insert: "md5(new.status) = 'x'" }));
    assert.match(failures[0]?.message ?? "", /uses md5\(text\)/);
    const { rows } = await database.query<{ hash: string }>("select md5('a') as hash");
    assert.equal(rows[0]?.hash.length, 32, "in another database it may still");
  });
});
