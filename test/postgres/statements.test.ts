/** Whatever statement changes a row: each change is captured once, in order. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captured, images } from "../support/capture-scene.ts";
import { copyIn } from "../support/copy.ts";
import { connect, serverMajor } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const ORDERS = "create table orders (id integer primary key, n integer);";

describe("statements", () => {
  test("ON CONFLICT: what is done is captured, what is not done is not", async (t) => {
    const { query, told } = await captured(t, ORDERS);
    await query("insert into orders values (1, 1), (2, 2)");
    await told();
    await query("insert into orders values (1, 9), (3, 3) on conflict do nothing");
    await query("insert into orders values (1, 9) on conflict do nothing");
    await query(`insert into orders values (1, 5), (2, 6), (4, 4)
      on conflict (id) do update set n = excluded.n where orders.n = 1`);
    assert.deepEqual(images(await told()).sort(), [
      'I {"id":3,"n":3}',
      'I {"id":4,"n":4}',
      'U {"id":1,"n":1} {"id":1,"n":5}',
    ]);
  });

  for (const format of ["text", "csv", "binary"])
    test(`COPY of thousands of rows, ${format}`, async (t) => {
      const { query, told, client, url } = await captured(
        t,
        "create table orders (id integer primary key, note text, twice integer generated always as (id * 2) stored)",
      );
      await query(
        "create table source as select i as id, E'a\\tb\\n\\\\ \"' || i as note from generate_series(1, 5000) as i",
      );
      await copyIn(
        client,
        await connect(t, url),
        `orders (id, note) from stdin (format ${format})`,
        `(select * from source order by id) to stdout (format ${format})`,
      );
      const events = await told();
      assert.deepEqual(
        images(events),
        Array.from(
          { length: 5000 },
          (_, index) =>
            `I {"id":${index + 1},"note":"a\\tb\\n\\\\ \\"${index + 1}","twice":${2 * (index + 1)}}`,
        ),
      );
    });

  test("several changes of one table in one statement, by writable CTEs", async (t) => {
    const { query, told } = await captured(t, ORDERS);
    await query("insert into orders select i, i from generate_series(1, 6) as i");
    await told();
    await query(`
      with gone as (delete from orders where id = 1 returning *),
        also_gone as (delete from orders where id = 2),
        more as (insert into orders select id + 10, n from gone returning *),
        less as (update orders set n = -n where id = 3)
      update orders set n = (select n from more) where id in (4, 5)`);
    assert.deepEqual(images(await told()).sort(), [
      'D {"id":1,"n":1}',
      'D {"id":2,"n":2}',
      'I {"id":11,"n":1}',
      'U {"id":3,"n":3} {"id":3,"n":-3}',
      'U {"id":4,"n":4} {"id":4,"n":1}',
      'U {"id":5,"n":5} {"id":5,"n":1}',
    ]);
  });

  test("foreign keys: cascades over two levels, set null, set default, and updates of the key", async (t) => {
    const { query, told, lines } = await captured(
      t,
      `create table a (id integer primary key);
      create table b (id integer primary key, a integer references a on delete cascade on update cascade);
      create table c (b integer references b on delete cascade on update cascade, n integer, primary key (b, n));
      create table d (id integer primary key, a integer references a on delete set null on update cascade);
      create table e (id integer primary key, a integer default 0 references a on delete set default);
      create table f (id integer primary key references a on delete cascade on update cascade)`,
    );
    await query(`insert into a values (0), (1), (2); insert into b values (1, 1), (2, 1); insert into c values (1, 1), (1, 2), (2, 1);
      insert into d values (1, 1); insert into e values (1, 1); insert into f values (1), (2)`);
    await told();
    await query("update b set id = 5 where id = 1; update a set id = 7 where id = 2");
    assert.deepEqual((await lines()).sort(), [
      "Update a [2]>[7]",
      "Update b [1]>[5]",
      "Update c [1,1]>[5,1]",
      "Update c [1,2]>[5,2]",
      "Update f [2]>[7]",
    ]);
    await query("delete from a where id = 1");
    const events = await told();
    assert.deepEqual(events.map(({ operation, table, key }) => `${operation} ${table} ${key}`).sort(), [
      "Delete a [1]",
      "Delete b [2]",
      "Delete b [5]",
      "Delete c [2,1]",
      "Delete c [5,1]",
      "Delete c [5,2]",
      "Delete f [1]",
      "Update d [1]",
      "Update e [1]",
    ]);
    const after = (table: string) => events.find((event) => event.table === table)?.new;
    assert.deepEqual(
      [JSON.parse(after("d") ?? ""), JSON.parse(after("e") ?? "")],
      [
        { id: 1, a: null },
        { id: 1, a: 0 },
      ],
    );
  });

  test("G2 a row that refers to itself: the cascade comes after the change that caused it", async (t) => {
    const { query, told } = await captured(
      t,
      "create table nodes (id integer primary key, parent integer references nodes on update cascade on delete cascade)",
    );
    await query("insert into nodes values (1, 1), (2, 1)");
    await told();
    await query("update nodes set id = 5 where id = 1; delete from nodes where id = 5");
    const events = images(await told());
    assert.equal(events[0], 'U {"id":1,"parent":1} {"id":5,"parent":1}');
    assert.deepEqual(events.slice(1, 3).sort(), [
      'U {"id":2,"parent":1} {"id":2,"parent":5}',
      'U {"id":5,"parent":1} {"id":5,"parent":5}',
    ]);
    assert.deepEqual(events.slice(3), ['D {"id":5,"parent":5}', 'D {"id":2,"parent":5}']);
  });

  test("updates from a join in any order, of rows behind a cursor, and of keys that change places", async (t) => {
    const { query, told, lines } = await captured(
      t,
      "create table orders (id integer primary key deferrable, n integer); create table wanted (id integer, n integer)",
    );
    await query(`insert into orders select i, i from generate_series(1, 2000) as i;
      insert into wanted select i, -i from generate_series(1, 2000) as i order by md5(i::text)`);
    await told();
    await query("update orders set n = wanted.n from wanted where wanted.id = orders.id");
    assert.deepEqual(
      images(await told()).sort(),
      Array.from(
        { length: 2000 },
        (_, i) => `U {"id":${i + 1},"n":${i + 1}} {"id":${i + 1},"n":${-i - 1}}`,
      ).sort(),
    );
    await query(`begin; declare every cursor for select * from orders where id in (3, 4) order by id for update;
      fetch every; update orders set n = 0 where current of every;
      fetch every; delete from orders where current of every; commit`);
    assert.deepEqual(await lines(), ["Update orders [3]", "Delete orders [4]"]);
    await query("delete from orders where id > 2; update orders set id = 3 - id");
    assert.deepEqual((await lines()).slice(-2), ["Update orders [1]>[2]", "Update orders [2]>[1]"]);
  });

  test("TRUNCATE of several tables, of those that depend on them, and with RESTART IDENTITY", async (t) => {
    const { query, told, lines } = await captured(
      t,
      `create table a (id integer generated always as identity primary key);
      create table b (id integer references a); create table c (id integer)`,
    );
    await query("insert into a default values; insert into b values (1); insert into c values (1)");
    await told();
    await query("truncate a, c restart identity cascade");
    assert.deepEqual((await lines()).sort(), ["Truncate a", "Truncate b", "Truncate c"]);
    await query("insert into a default values; truncate only c");
    assert.deepEqual(await lines(), ["Insert a [1]", "Truncate c"]);
  });

  test("functions, procedures and DO blocks, with commits and caught errors in between", async (t) => {
    const { query, told } = await captured(
      t,
      `${ORDERS}
      create function add_order(id integer) returns void language sql as $$ insert into orders values (id, 0) $$;
      create procedure add_two(id integer) language plpgsql as $$ begin
        insert into orders values (id, 0); commit;
        insert into orders values (id + 1, 0); rollback;
        insert into orders values (id + 2, 0);
      end $$`,
    );
    await query("select add_order(1)");
    await query("call add_two(10)");
    await query(`do $$ begin
      begin insert into orders values (20, 0); insert into orders values (1, 0); exception when unique_violation then null; end;
      insert into orders values (21, 0); commit;
      execute 'delete from orders where id = $1' using 21;
    end $$`);
    const events = await told();
    assert.deepEqual(
      events.map(({ operation, key }) => `${operation} ${key}`),
      ["Insert [1]", "Insert [10]", "Insert [12]", "Insert [21]", "Delete [21]"],
    );
    assert.equal(new Set(events.map(({ transactionId }) => transactionId)).size, 5);
  });

  test("G6 a deferred constraint that fails at commit takes its events along", async (t) => {
    const { query, lines } = await captured(
      t,
      `${ORDERS} create table lines (id integer primary key, order_id integer references orders deferrable initially deferred)`,
    );
    await assert.rejects(query("begin; insert into lines values (1, 1); commit"), { code: "23503" });
    await query("begin; insert into lines values (2, 2); insert into orders values (2, 0); commit");
    assert.deepEqual(await lines(), ["Insert lines [2]", "Insert orders [2]"]);
  });
});

test("PostgreSQL 17: MERGE through a view, and BY SOURCE", async (t) => {
  const scene = await captured(t, `${ORDERS} create view every as select * from orders`);
  if ((await serverMajor(scene)) < 17) return t.skip("only from PostgreSQL 17 on");
  await scene.query("insert into orders select i, i from generate_series(1, 3) as i");
  await scene.told();
  await scene.query(`merge into every using generate_series(2, 4) as wanted (id) on every.id = wanted.id
    when matched then update set n = 0 when not matched by target then insert values (wanted.id, 0)
    when not matched by source then delete`);
  assert.deepEqual((await scene.lines()).sort(), [
    "Delete orders [1]",
    "Insert orders [4]",
    "Update orders [2]",
    "Update orders [3]",
  ]);
});

test("G2 two sessions that write one row: ids follow the lock, not the start of the statement", async (t) => {
  const { query, told, url } = await captured(t, `${ORDERS} insert into orders values (1, 0)`);
  const other = await connect(t, url);
  await query("begin; update orders set n = 1");
  const waiting = other.query("update orders set n = n + 1 where id = 1");
  await eventually(async () => {
    const waits = await query("select from pg_locks where not granted and locktype = 'transactionid'");
    return waits.rowCount;
  });
  await query("insert into orders values (2, 0); commit");
  await waiting;
  assert.deepEqual(images(await told()), [
    'U {"id":1,"n":0} {"id":1,"n":1}',
    'I {"id":2,"n":0}',
    'U {"id":1,"n":1} {"id":1,"n":2}',
  ]);
});
