/** Triggers, rules and views of the user's own: what is stored in the end is captured. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captured, images } from "../support/capture-scene.ts";

const ORDERS = "create table orders (id integer primary key, n integer);";

describe("beside triggers, rules and views of the user", () => {
  test("BEFORE triggers that edit or skip rows: what is stored is captured", async (t) => {
    const { query, told } = await captured(
      t,
      `${ORDERS}
      create function edit() returns trigger language plpgsql as $$ begin
        if new.n % 3 = 0 then return null; end if;
        new.n := new.n * 100; return new;
      end $$;
      create trigger aaa before insert or update on orders for each row execute function edit();
      create function keep() returns trigger language plpgsql as $$ begin
        if old.id = 2 then return null; end if; return old;
      end $$;
      create trigger zzz before delete on orders for each row execute function keep()`,
    );
    await query("insert into orders select i, i from generate_series(1, 5) as i");
    await query("update orders set n = case id when 4 then 3 else id * 2 end; delete from orders");
    assert.deepEqual(images(await told()), [
      ...[1, 2, 4, 5].map((id) => `I {"id":${id},"n":${id}00}`),
      ...[1, 2, 5].map((id) => `U {"id":${id},"n":${id}00} {"id":${id},"n":${2 * id}00}`),
      'D {"id":4,"n":400}',
      'D {"id":1,"n":200}',
      'D {"id":5,"n":1000}',
    ]);
  });

  test("AFTER triggers that write on, to other tables and to their own", async (t) => {
    const { query, told } = await captured(
      t,
      `${ORDERS}
      create table log (id integer generated always as identity primary key, n integer);
      create function tell() returns trigger language plpgsql as $$ begin
        insert into log (n) values (new.n); return null;
      end $$;
      create trigger tell after insert or update on orders for each row execute function tell();
      create function again() returns trigger language plpgsql as $$ begin
        if exists (select from orders where n < 3) then update orders set n = n + 1; end if; return null;
      end $$;
      create trigger zzz after insert or update on orders for each statement execute function again()`,
    );
    await query("insert into orders values (1, 1)");
    const events = await told();
    assert.deepEqual(
      images(events.filter(({ table }) => table === "log")),
      [1, 2, 3].map((n) => `I {"id":${n},"n":${n}}`),
    );
    assert.deepEqual(images(events.filter(({ table }) => table === "orders")), [
      'I {"id":1,"n":1}',
      'U {"id":1,"n":1} {"id":1,"n":2}',
      'U {"id":1,"n":2} {"id":1,"n":3}',
    ]);
  });

  test("rules, and views that can be written to", async (t) => {
    const { query, lines } = await captured(
      t,
      `${ORDERS} create table log (id integer primary key);
      create rule also as on insert to orders do also insert into log values (new.id);
      create table never (id integer); create rule instead as on delete to orders do instead update orders set n = -1 where id = old.id;
      create view small as select id from orders where id < 100 with check option;
      create view joined as select orders.id, log.id as log_id from orders join log using (id);
      create function through() returns trigger language plpgsql as $$ begin
        update orders set n = new.log_id where id = new.id; return new;
      end $$;
      create trigger through instead of update on joined for each row execute function through()`,
    );
    await query("insert into orders values (1, 1)");
    assert.deepEqual(await lines(), ["Insert orders [1]", "Insert log [1]"]);
    await query("delete from orders");
    assert.deepEqual(await lines(), ["Update orders [1]"]);
    await query(
      "insert into small values (2); update small set id = 3 where id = 2; update joined set log_id = 7 where id = 1",
    );
    assert.deepEqual(await lines(), [
      "Insert orders [2]",
      "Insert log [2]",
      "Update orders [2]>[3]",
      "Update orders [1]",
    ]);
  });

  test("DISABLE TRIGGER ALL is healed by the next build; where event triggers are, at once", async (t) => {
    for (const owner of [true, false]) {
      const scene = await captured(t, ORDERS, { owner });
      await scene.query("alter table orders disable trigger all; insert into orders values (1, 1)");
      assert.deepEqual(await scene.lines(), owner ? [] : ["Insert orders [1]"]);
      assert.equal((await scene.build()).changed, owner);
      await scene.query("update orders set n = 2; delete from orders; truncate orders");
      assert.deepEqual(await scene.lines(), ["Update orders [1]", "Delete orders [1]", "Truncate orders"]);
      assert.equal((await scene.build()).changed, false);
    }
  });
});
