/** Relations of every kind: captured, skipped, or refused by name. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OPERATIONS } from "../../src/core/api/capture.ts";
import { captured } from "../support/capture-scene.ts";
import { connect } from "../support/postgres.ts";

describe("kinds of relations", () => {
  test("an unlogged table is captured, a temporary one is not, not even in the place of one that is", async (t) => {
    const { query, lines, build } = await captured(
      t,
      "create unlogged table fast (id integer primary key); create table orders (id integer primary key)",
    );
    await query("insert into fast values (1); update fast set id = 2; delete from fast; truncate fast");
    await query("create temporary table orders (id integer primary key)");
    assert.equal((await build()).changed, false);
    await query("insert into orders values (1); insert into public.orders values (2)");
    assert.deepEqual(await lines(), [
      "Insert fast [1]",
      "Update fast [1]>[2]",
      "Delete fast [2]",
      "Truncate fast",
      "Insert orders [2]",
    ]);
  });

  test("views, materialized views, foreign tables and sequences are skipped under '*', and refused by name", async (t) => {
    const { query, lines, build } = await captured(
      t,
      `create table orders (id serial primary key);
      create view v as select * from orders; create materialized view m as select * from orders;
      create extension file_fdw; create server files foreign data wrapper file_fdw;
      create foreign table f (id integer) server files options (filename '/nowhere')`,
      { owner: false },
    );
    await query("insert into v values (1); refresh materialized view m; select nextval('orders_id_seq')");
    assert.deepEqual(await lines(), ["Insert orders [1]"]);
    const { failures, findings } = await build();
    assert.deepEqual(failures, []);
    const skipped = findings.flatMap(({ message }) => /\d skipped under '\*'/.exec(message)?.[0] ?? []);
    assert.deepEqual(skipped.sort(), ["1 skipped under '*'", "2 skipped under '*'"]);
    const tables = ["v", "m", "f", "orders_id_seq"].map((name) => ({
      schema: "public",
      name,
      operations: [...OPERATIONS],
    }));
    assert.deepEqual(
      (await build({ tables })).failures.map(({ where, code }) => `${where} ${code}`),
      [
        "public.v TableNotSupported",
        "public.m TableNotSupported",
        "public.f TableNotSupported",
        "public.orders_id_seq TableNotFound",
      ],
    );
  });

  test("a partition that is a foreign table", async (t) => {
    const scene = await captured(
      t,
      `create extension postgres_fdw; create schema there;
      create table there.far (region text, id integer, primary key (region, id));
      create table sales (region text, id integer) partition by list (region);
      create table sales_eu partition of sales for values in ('eu')`,
      { owner: false },
    );
    const { hostname, port, username, password } = new URL(scene.superuserUrl);
    await scene.query(`
      create server far foreign data wrapper postgres_fdw options (host '${hostname}', port '${port}', dbname '${scene.name}');
      create user mapping for current_user server far options (user '${username}', password '${password}');
      create foreign table sales_far partition of sales for values in ('far') server far options (schema_name 'there', table_name 'far')`);
    const tables = [{ schema: "public", name: "sales", operations: [...OPERATIONS] }];
    const { failures } = await scene.build({ tables });
    assert.deepEqual(failures, []);
    assert.equal((await scene.build({ tables })).changed, false);
    await scene.query(
      `insert into sales values ('eu', 1), ('far', 2); update sales set id = id + 10; delete from sales where region = 'far'`,
    );
    assert.deepEqual(
      (await scene.told()).map(({ operation, new: now, old }) => `${operation} ${now ?? old}`),
      [
        'Insert {"region":"eu","id":1}',
        'Insert {"region":"far","id":2}',
        'Update {"region":"eu","id":11}',
        'Update {"region":"far","id":12}',
        'Delete {"region":"far","id":12}',
      ],
    );
  });

  test("a table without a column", async (t) => {
    const { query, told } = await captured(t, "create table nothing ()");
    await query("insert into nothing default values; delete from nothing");
    assert.deepEqual(
      (await told()).map(({ operation, key, old, new: now }) => [operation, key, old, now]),
      [
        ["Insert", null, null, "{}"],
        ["Delete", null, "{}", null],
      ],
    );
  });

  test("a table with 1,600 columns", async (t) => {
    const names = Array.from({ length: 1600 }, (_, index) => `c${index}`);
    const { query, told } = await captured(
      t,
      `create table wide (${names.map((name) => `${name} smallint`).join(", ")}, primary key (c1599, c0))`,
    );
    await query(
      `insert into wide values (${names.map((_, index) => index).join(", ")}); update wide set c0 = -1, c800 = null`,
    );
    const [inserted, updated] = await told();
    const row = Object.fromEntries(names.map((name, index) => [name, index]));
    assert.deepEqual(JSON.parse(inserted?.new ?? ""), row);
    assert.deepEqual([updated?.oldKey, updated?.key], ["[1599,0]", "[1599,-1]"]);
    assert.deepEqual(JSON.parse(updated?.old ?? ""), row);
    assert.deepEqual(JSON.parse(updated?.new ?? ""), { ...row, c0: -1, c800: null });
  });

  test("tables without a primary key: twins, and rows that look like others", async (t) => {
    const { query, told } = await captured(t, "create table loose (a integer, b text, unique (a))");
    await query(
      "insert into loose values (null, 'x'), (null, 'x'), (1, null); update loose set b = 'y' where a is null",
    );
    await query("delete from loose where ctid = (select min(ctid) from loose where a is null)");
    assert.deepEqual(
      (await told()).map(
        ({ operation, key, oldKey, old, new: now }) => `${operation} ${key} ${oldKey} ${old} ${now}`,
      ),
      [
        ...['{"a":null,"b":"x"}', '{"a":null,"b":"x"}', '{"a":1,"b":null}'].map(
          (row) => `Insert null null null ${row}`,
        ),
        ...Array(2).fill('Update null null {"a":null,"b":"x"} {"a":null,"b":"y"}'),
        'Delete null null {"a":null,"b":"y"} null',
      ],
    );
  });
});

test("a table is the same one for every session, whatever schemas they look in first", async (t) => {
  const { query, told, url } = await captured(
    t,
    "create schema other; create table orders (id integer primary key); create table other.orders (id text primary key)",
  );
  const session = await connect(t, url);
  for (const path of ["public", "other", "public"])
    await session.query(`set search_path = ${path}; insert into orders values ('1'); delete from orders`);
  await query("insert into other.orders values ('x')");
  assert.deepEqual(
    (await told()).map(({ schema, key }) => `${schema} ${key}`),
    [
      ...Array(2).fill("public [1]"),
      ...Array(2).fill('other ["1"]'),
      ...Array(2).fill("public [1]"),
      'other ["x"]',
    ],
  );
});
