/** What of a row leaves the table. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import type { TableSpec } from "../../src/core/api/capture.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { testDatabase } from "../support/postgres.ts";

type Columns = NonNullable<TableSpec["columns"]>;

const PEOPLE = `create table people (id integer primary key, name text, "Card No" text, salary numeric, note text)`;
const INSERT = `insert into people values (1, 'Ada', '4111', 12.50, null)`;

async function scene(t: TestContext, { owner = true, tables = PEOPLE } = {}) {
  const database = await testDatabase(t, { owner });
  await database.query(tables);
  return {
    database,
    build: (columns: Columns | undefined, name = "people") =>
      buildCapture(
        database.settings,
        {
          capture: captureSpec({
            tables: [
              {
                schema: "public",
                name,
                operations: ["Insert", "Update", "Delete", "Truncate"],
                ...(columns === undefined ? {} : { columns }),
              },
            ],
          }),
          callbacks: ["a"],
          owner: "manifest:default/test",
          version: "1",
        },
        { mode: "apply" },
      ),
    async told(): Promise<{ key: string | null; old: unknown; new: unknown }[]> {
      const { rows } = await database.query<{ key: string | null; old: unknown; new: unknown }>(
        "select key, old::json, new::json from pgevents.change_events() where operation <> 'S' order by id",
      );
      await database.query("truncate pgevents.outbox");
      return rows;
    },
  };
}

describe("G7 columns", () => {
  test("include: only those, in the table's order, with their digits; a new column stays where it is", async (t) => {
    const { database, build, told } = await scene(t);
    await build({ include: ["salary", "id"] });
    assert.equal((await build({ include: ["salary", "id"] })).changed, false);
    await database.query(`alter table people add column secret text default 'x'; ${INSERT}`);
    const { rows } = await database.query<{ new: string }>(
      "select new from pgevents.change_events() where operation = 'I'",
    );
    assert.match(rows[0]?.new ?? "", /"id" : 1, "salary" : 12\.50 }$/);
    assert.deepEqual(await told(), [{ key: "[1]", old: null, new: { id: 1, salary: 12.5 } }]);
  });

  test("exclude, mask and hash, in old and new images; null stays null", async (t) => {
    const { database, build, told } = await scene(t);
    await build({ exclude: ["salary"], mask: ["Card No", "note"], hash: ["name"] });
    await database.query(`${INSERT}; update people set salary = 13, note = 'x'; delete from people`);
    const { rows } = await database.query<{ hash_salt: string }>(
      "select hash_salt from pgevents.installation",
    );
    const name = createHash("sha256").update(`${rows[0]?.hash_salt}Ada`).digest("hex");
    const [before, after] = [null, "***"].map((note) => ({ id: 1, name, "Card No": "***", note }));
    assert.deepEqual(await told(), [
      { key: "[1]", old: null, new: before },
      { key: "[1]", old: before, new: after },
      { key: "[1]", old: after, new: null },
    ]);
  });

  test("what is hidden is nowhere in the outbox, not in keys either", async (t) => {
    const { database, build } = await scene(t, {
      tables: "create table people (email text primary key, token text)",
    });
    const { findings } = await build({ exclude: ["email"], mask: ["token"] });
    assert.match(findings[0]?.message ?? "", /of the key email is excluded or masked/);
    await database.query(
      "insert into people values ('planted@example.com', 'planted-token'); update people set email = 'planted-2'; delete from people",
    );
    const { rows } = await database.query("select string_agg(outbox::text, '') as text from pgevents.outbox");
    assert.doesNotMatch(String(rows[0]?.text), /planted/);
    assert.match(String(rows[0]?.text), /\*\*\*/);
  });

  test("a change of what is captured is built in place, and again when it is taken back", async (t) => {
    const { database, build, told } = await scene(t);
    await build(undefined);
    for (const columns of [{ exclude: ["salary"] }, { mask: ["salary"] }, undefined]) {
      assert.deepEqual(
        (await build(columns)).actions.map(({ id }) => id),
        ["table:public.people", "record"],
      );
      assert.equal((await build(columns)).changed, false);
    }
    await database.query(INSERT);
    assert.equal((await told()).length, 1);
  });

  test("a column that is not there is told by name, and until then nothing of a row gets out", async (t) => {
    const { database, build, told } = await scene(t);
    await build({ exclude: ["salary"] });
    await database.query(`alter table people rename column salary to pay; ${INSERT}`);
    assert.deepEqual(await told(), [{ key: null, old: null, new: {} }]);
    const report = await build({ exclude: ["salary"] });
    assert.deepEqual(
      report.failures.map(({ where, code, message }) => [where, code, message.slice(0, 38)]),
      [["public.people", "ColumnNotFound", "public.people has no column salary; un"]],
    );
    await build({ exclude: ["pay"] });
    await database.query("update people set name = 'Eda'");
    assert.deepEqual((await told())[0]?.new, { id: 1, name: "Eda", "Card No": "4111", note: null });
  });

  test("for every table of a schema: where the column is, without a word where it is not", async (t) => {
    const { database, build, told } = await scene(t, {
      tables: `${PEOPLE}; create table plain (id integer primary key)`,
    });
    const { failures } = await build({ exclude: ["salary", "name", "note", "Card No"] }, "*");
    assert.deepEqual(failures, []);
    await database.query(`${INSERT}; insert into plain values (2)`);
    assert.deepEqual(
      (await told()).map((event) => event.new),
      [{ id: 1 }, { id: 2 }],
    );
  });

  test("of partitions and inheritance trees", async (t) => {
    const { database, build, told } = await scene(t, {
      tables:
        "create table people (id integer primary key, secret text) partition by range (id); create table people_1 partition of people default",
    });
    await build({ exclude: ["secret"] });
    assert.equal((await build({ exclude: ["secret"] })).changed, false);
    await database.query(
      "insert into people_1 values (1, 'x'); update people set secret = 'y'; delete from people",
    );
    assert.deepEqual(await told(), [
      { key: "[1]", old: null, new: { id: 1 } },
      { key: "[1]", old: { id: 1 }, new: { id: 1 } },
      { key: "[1]", old: { id: 1 }, new: null },
    ]);
  });

  test("of a table that a superuser's event trigger captures as it is made", async (t) => {
    const { database, build, told } = await scene(t, { owner: false });
    await build({ exclude: ["salary"] }, "*");
    await database.query(
      "create table later (id integer primary key, salary integer); insert into later values (1, 2)",
    );
    assert.deepEqual(await told(), [{ key: "[1]", old: null, new: { id: 1 } }]);
    assert.equal((await build({ exclude: ["salary"] }, "*")).changed, false);
  });

  test("names full of quotes, backslashes and other letters", async (t) => {
    const hostile = ['a"b', "c'd", "e\\f", "ü 🦉", "n", "{}", "$1"];
    const columns = hostile.map((name) => `"${name.replaceAll('"', '""')}" integer`).join(", ");
    const { database, build, told } = await scene(t, {
      tables: `create table people (id integer primary key, ${columns})`,
    });
    await build({ exclude: hostile.slice(0, 4), mask: hostile.slice(4) });
    assert.equal((await build({ exclude: hostile.slice(0, 4), mask: hostile.slice(4) })).changed, false);
    await database.query(`insert into people values (1${", 7".repeat(hostile.length)})`);
    assert.deepEqual((await told())[0]?.new, { id: 1, n: "***", "{}": "***", $1: "***" });
  });
});
