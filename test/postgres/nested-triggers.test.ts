/** G2 where triggers of the user write captured rows again while a statement on them is under way. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../src/core/event.ts";
import { type CaptureScene, captured, images } from "../support/capture-scene.ts";
import { type Random, randomFrom } from "../support/random-writers.ts";

const KINDS = {
  ordinary: "create table o (id integer primary key, n integer);",
  partitioned: `create table o (id integer primary key, n integer) partition by range (id);
    create table o_low partition of o for values from (minvalue) to (5); create table o_rest partition of o default;`,
};

describe("G2 triggers that write again", () => {
  for (const name of ["AAA", "aaa", "zzz"])
    for (const level of ["row", "statement"])
      for (const [kind, table] of Object.entries(KINDS))
        test(`the same row, AFTER ${level} trigger ${name}, ${kind} table`, async (t) => {
          const { query, told } = await captured(
            t,
            `${table}
            create function again() returns trigger language plpgsql as $$ begin
              if exists (select from o where n < 3) then update o set n = n + 1 where n < 3; end if; return null;
            end $$;
            create trigger "${name}" after insert or update on o for each ${level} execute function again()`,
          );
          await query("insert into o values (1, 1)");
          assert.deepEqual(images(await told()), [
            'I {"id":1,"n":1}',
            'U {"id":1,"n":1} {"id":1,"n":2}',
            'U {"id":1,"n":2} {"id":1,"n":3}',
          ]);
        });

  test("an AFTER row trigger that deletes the row that came", async (t) => {
    const { query, lines } = await captured(
      t,
      `create table o (id integer primary key);
      create function away() returns trigger language plpgsql as $$ begin delete from o where id = new.id; return null; end $$;
      create trigger zzz after insert on o for each row execute function away()`,
    );
    await query("insert into o values (1)");
    assert.deepEqual(await lines(), ["Insert o [1]", "Delete o [1]"]);
  });

  for (const [kind, table] of Object.entries(KINDS))
    test(`another row of the same statement, ${kind} table`, async (t) => {
      const { query, told } = await captured(
        t,
        `${table}
        create function next() returns trigger language plpgsql as $$ begin
          update o set n = n + 10 where id = new.id + 1; return null;
        end $$;
        create trigger next after insert on o for each row execute function next()`,
      );
      await query("insert into o values (3, 0), (4, 0), (5, 0)");
      assert.deepEqual(images(await told()), [
        ...[3, 4, 5].map((id) => `I {"id":${id},"n":0}`),
        ...[4, 5].map((id) => `U {"id":${id},"n":0} {"id":${id},"n":10}`),
      ]);
    });

  test("what a BEFORE trigger writes stays before", async (t) => {
    const { query, lines } = await captured(
      t,
      `${KINDS.ordinary}
      create function replace() returns trigger language plpgsql as $$ begin delete from o where id = new.id; return new; end $$;
      create trigger first before insert on o for each row execute function replace();
      create function touch() returns trigger language plpgsql as $$ begin update o set n = n + 1 where id = new.id + 1; return null; end $$;
      create trigger last after insert on o for each row execute function touch()`,
    );
    await query("insert into o values (1, 1), (2, 1)");
    await lines();
    await query("insert into o values (1, 5), (2, 5)");
    assert.deepEqual(await lines(), [
      ...["Delete o [1]", "Delete o [2]"],
      ...["Insert o [1]", "Insert o [2]", "Update o [2]"],
    ]);
  });

  test("a trigger that comes later: with the next build; where event triggers are, at once", async (t) => {
    for (const owner of [true, false]) {
      const scene = await captured(t, KINDS.ordinary, { owner });
      await scene.query(`
        create function again() returns trigger language plpgsql as $$ begin
          update o set n = n + 1 where n < 2; return null;
        end $$;
        create trigger again after insert on o for each row execute function again()`);
      assert.equal((await scene.build()).changed, owner);
      await scene.query("insert into o values (1, 1)");
      assert.deepEqual(await scene.lines(), ["Insert o [1]", "Update o [1]"]);
      await scene.query("drop trigger again on o");
      assert.equal((await scene.build()).changed, true, "back to triggers for statements");
      await scene.query("insert into o select i, 1 from generate_series(2, 3) as i");
      assert.deepEqual(await scene.lines(), ["Insert o [2]", "Insert o [3]"]);
    }
  });

  for (const [kind, table] of Object.entries(KINDS))
    for (const seed of [2, 3, 4])
      test(`the stream, applied in order, is the table: random triggers ${seed}, ${kind} table`, async (t) => {
        const random = randomFrom(seed);
        const scene = await captured(t, table + randomTriggers(random));
        await scene.query(`select setseed(${seed / 10})`);
        const rows = new Map<string, string | null>();
        for (let count = 0; count < 20; count += 1) {
          await randomTransaction(scene, random);
          for (const event of await scene.told()) apply(rows, event);
          const { rows: stored } = await scene.query<{ image: string }>(
            "select row_to_json(o)::text as image from o",
          );
          assert.deepEqual([...rows.values()].sort(), stored.map(({ image }) => image).sort());
        }
      });
});

/** Each event must fit to what the events before it have left. */
function apply(
  rows: Map<string, string | null>,
  { id, operation, key, oldKey, old, new: image }: ChangeEvent,
): void {
  const before = oldKey ?? key ?? "";
  assert.equal(rows.get(before) ?? null, old, `${operation} ${id}`);
  rows.delete(before);
  if (image !== null) {
    assert.ok(!rows.has(key ?? ""), `${operation} ${id}`);
    rows.set(key ?? "", image);
  }
}

const SOME = "(random() * 9)::integer";
const WRITES = [
  `update o set n = n + 1 where id between ${SOME} and ${SOME}`,
  `update o set n = n + 100 where id = coalesce(new.id, old.id)`,
  `update o set id = ${SOME}, n = n + 1000 where id = ${SOME}`,
  `delete from o where id = ${SOME}`,
  `insert into o values (${SOME}, 0), (10 + ${SOME}, 0) on conflict (id) do update set n = o.n + 10000`,
  `insert into o select i, 5 from generate_series(${SOME}, ${SOME}) as i on conflict do nothing`,
];

/** Two to four AFTER triggers; each writes twice, and sometimes the second time is rolled back. */
function randomTriggers(random: Random): string {
  return Array.from({ length: 2 + random(3) }, (_, number) => randomTrigger(random, number)).join("");
}

function randomTrigger(random: Random, number: number): string {
  const level = random(3) === 0 ? "statement" : "row";
  const writes = WRITES.filter((write) => level === "row" || !write.includes("new.id"));
  const write = () => writes[random(writes.length)];
  const events = ["insert", "update", "delete"].filter(() => random(3) > 0);
  const name = `${["AA", "Zz", "aa", "zz"][random(4)]}${number}`;
  return `
    create function f${number}() returns trigger language plpgsql as $$ begin
      if pg_trigger_depth() < 4 and random() < 0.7 then
        ${write()};
        begin
          ${write()};
          if random() < 0.5 then raise exception using errcode = 'PE001'; end if;
        exception when sqlstate 'PE001' or unique_violation or triggered_data_change_violation then null;
        end;
      end if;
      return null;
    end $$;
    create trigger "${name}" after ${events.length === 0 ? "insert" : events.join(" or ")} on o for each ${level} execute function f${number}();`;
}

/** A transaction with savepoints; statements that fail are rolled back. */
async function randomTransaction({ query }: CaptureScene, random: Random): Promise<void> {
  const statements = WRITES.filter((write) => !write.includes("new.id"));
  await query("begin");
  for (let count = 1 + random(4); count > 0; count -= 1) {
    await query("savepoint s");
    const failed = await query(statements[random(statements.length)] ?? "").then(
      () => false,
      (error: { code?: string }) => {
        assert.match(error.code ?? "", /^(23505|27000|21000)$/); // unique, changed by a trigger, twice by one command
        return true;
      },
    );
    if (failed || random(5) === 0) await query("rollback to s");
  }
  await query(random(6) === 0 ? "rollback" : "commit");
}
