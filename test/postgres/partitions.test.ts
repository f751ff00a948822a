/** Partitioned tables and inheritance trees: whatever a statement names, each row is captured once. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captured } from "../support/capture-scene.ts";
import { captureSpec, tableSpec } from "../support/capture-spec.ts";
import { serverMajor, testDatabase } from "../support/postgres.ts";

const OWNER = "manifest:default/test";
const SALES = `
  create table sales (region text, id integer, amount integer, primary key (region, id)) partition by list (region);
  create table sales_eu partition of sales for values in ('eu');
  create table sales_us (amount integer, id integer not null, region text not null, gone integer);
  alter table sales_us drop column gone;
  alter table sales attach partition sales_us for values in ('us');
  create table sales_rest partition of sales default partition by range (id);
  create table sales_rest_low partition of sales_rest for values from (0) to (1000);`;

async function scene(t: TestContext, tables: string, { owner = true } = {}) {
  const database = await testDatabase(t, { owner });
  await database.query(tables);
  return {
    database,
    build: (capture: Partial<CaptureSpec> = {}) =>
      buildCapture(
        database.settings,
        { capture: captureSpec(capture), callbacks: ["a"], owner: OWNER, version: "1" },
        { mode: "apply" },
      ),
    /** Rows of the outbox in a few words, and empties it: operation, table, key, partition. */
    async told(): Promise<string[]> {
      const { rows } = await database.query<{ words: string }>(`
        select concat_ws(' ', operation, schema_name || '.' || table_name, key, context::json #>> '{partition,table}') as words
        from pgevents.change_events() where operation <> 'S' order by id`);
      await database.query("truncate pgevents.outbox");
      return rows.map(({ words }) => words);
    },
  };
}

describe("a partitioned table", () => {
  test("rows written through the root and into a partition are events of the root, each once", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    const report = await build();
    assert.deepEqual([report.tables, report.findings.filter(({ severity }) => severity !== "Info")], [1, []]);
    assert.equal((await build()).changed, false);
    await database.query("insert into sales values ('eu', 1, 5), ('us', 2, 5), ('jp', 3, 5)");
    await database.query("insert into sales_us (region, id, amount) values ('us', 4, 5)");
    await database.query("update sales set amount = 6 where id < 3; delete from sales_rest_low");
    assert.deepEqual(await told(), [
      'I public.sales ["eu",1] sales_eu',
      'I public.sales ["us",2] sales_us',
      'I public.sales ["jp",3] sales_rest_low',
      'I public.sales ["us",4] sales_us',
      'U public.sales ["eu",1] sales_eu',
      'U public.sales ["us",2] sales_us',
      'D public.sales ["jp",3] sales_rest_low',
    ]);
  });

  test("a row that moves to another partition is a Delete and an Insert of the same table, in this order", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    await build();
    await database.query("insert into sales values ('eu', 1, 5); update sales set region = 'us'");
    assert.deepEqual(await told(), [
      'I public.sales ["eu",1] sales_eu',
      'D public.sales ["eu",1] sales_eu',
      'I public.sales ["us",1] sales_us',
    ]);
  });

  test("a partition that comes is captured at once, without a build, whoever made it", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    await build();
    await database.query(
      "create table sales_ca partition of sales for values in ('ca'); insert into sales_ca values ('ca', 1, 1)",
    );
    assert.deepEqual(await told(), ['I public.sales ["ca",1] sales_ca']);
  });

  test("a captured table can be attached and detached, and is captured as what it is after a build", async (t) => {
    const { database, build, told } = await scene(
      t,
      `${SALES} create table sales_br (like sales including all)`,
    );
    assert.equal((await build()).tables, 2);
    await database.query("insert into sales_br values ('br', 1, 1)");
    await database.query("alter table sales attach partition sales_br for values in ('br')");
    await database.query("insert into sales values ('br', 2, 1)");
    assert.equal((await build()).tables, 1);
    await database.query("insert into sales_br values ('br', 3, 1)");
    await database.query("alter table sales detach partition sales_br");
    assert.equal((await build()).tables, 2);
    await database.query("insert into sales_br values ('br', 4, 1)");
    assert.deepEqual(await told(), [
      'I public.sales_br ["br",1]',
      'I public.sales ["br",2] sales_br',
      'I public.sales ["br",3] sales_br',
      'I public.sales_br ["br",4]',
    ]);
    assert.equal((await build()).changed, false);
  });

  test("so can one that is captured row by row: told of under both names until the build", async (t) => {
    const columns = { mask: ["none"] };
    for (const owner of [true, false]) {
      const { query, lines, build } = await captured(
        t,
        "create table o (id integer primary key) partition by range (id); create table p (id integer primary key)",
        { owner, tables: [tableSpec({ name: "*", columns })] },
      );
      await query("alter table o attach partition p for values from (0) to (10); insert into p values (1)");
      assert.deepEqual((await lines()).sort(), owner ? ["Insert o [1]", "Insert p [1]"] : ["Insert o [1]"]);
      await build();
      await query("insert into p values (2)");
      assert.deepEqual(await lines(), ["Insert o [2]"]);
    }
  });

  test("TRUNCATE tells of each table that it empties", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    await build();
    await database.query("truncate sales_eu");
    assert.deepEqual(await told(), ["T public.sales_eu"]);
    await database.query("truncate sales");
    assert.deepEqual(
      (await told()).sort(),
      ["sales", "sales_eu", "sales_rest", "sales_rest_low", "sales_us"].map((name) => `T public.${name}`),
    );
  });

  test("ON CONFLICT, MERGE, many rows, and keys that change", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    await build();
    await database.query(
      "insert into sales values ('eu', 1, 1) on conflict (region, id) do update set amount = 2",
    );
    await database.query(
      "insert into sales values ('eu', 1, 1) on conflict (region, id) do update set amount = 2",
    );
    await database.query(
      (await serverMajor(database)) < 15
        ? "update sales set id = 2; insert into sales values ('us', 9, 0)"
        : "merge into sales using (values ('eu', 1), ('us', 9)) as source (region, id) on sales.region = source.region and sales.id = source.id when matched then update set id = 2 when not matched then insert values (source.region, source.id, 0)",
    );
    assert.deepEqual((await told()).sort(), [
      'I public.sales ["eu",1] sales_eu',
      'I public.sales ["us",9] sales_us',
      'U public.sales ["eu",1] sales_eu',
      'U public.sales ["eu",2] sales_eu',
    ]);
    await database.query("insert into sales select 'jp', i, i from generate_series(1, 500) as i");
    assert.equal(new Set(await told()).size, 500);
  });

  test("drift is healed, on root and partitions", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    await build();
    for (const drift of [
      'drop trigger "!pgevents_row_insert" on sales',
      'alter table sales disable trigger "!pgevents_row_insert"',
      'alter table sales enable replica trigger "!pgevents_row_insert"',
      'alter table sales_rest_low disable trigger "!pgevents_row_insert"',
      'create or replace trigger "!pgevents_row_insert" after insert on sales for each row execute function pgevents.capture_row()',
      "alter table sales drop constraint sales_pkey, add primary key (id, region)",
    ]) {
      await database.query(drift);
      assert.equal((await build()).changed, true, drift);
      assert.equal((await build()).changed, false, drift);
      await database.query("insert into sales values ('jp', 1, 5)");
      const key = drift.includes("primary key") ? '[1,"jp"]' : '["jp",1]';
      assert.deepEqual(await told(), [`I public.sales ${key} sales_rest_low`], drift);
      await database.query("delete from sales; truncate pgevents.outbox");
    }
  });

  test("only what the spec names: the root, its operations, and no partition by itself", async (t) => {
    const { database, build, told } = await scene(t, SALES);
    const one = await build({ tables: [{ schema: "public", name: "sales_eu", operations: ["Insert"] }] });
    assert.deepEqual(one.failures, [
      {
        code: "TableNotSupported",
        severity: "Error",
        where: "public.sales_eu",
        message:
          "public.sales_eu: a partition is captured with the table it is a part of; name public.sales.",
        remedy: null,
      },
    ]);
    await build({ tables: [{ schema: "public", name: "sales", operations: ["Delete"] }] });
    await database.query("insert into sales values ('eu', 1, 5); delete from sales; truncate sales");
    assert.deepEqual(await told(), ['D public.sales ["eu",1] sales_eu']);
    await build({ tables: [{ schema: "public", name: "*", exclude: ["sales"], operations: ["Insert"] }] });
    await database.query("insert into sales values ('eu', 1, 5)");
    assert.deepEqual(await told(), []);
  });

  test("uninstall takes the triggers of root and partitions away", async (t) => {
    const { database, build } = await scene(t, SALES);
    await build();
    await removeCapture(database.settings, { schemaName: "pgevents", owner: OWNER });
    const { rows } = await database.query("select tgname from pg_trigger where tgname like 'pgevents%'");
    assert.deepEqual(rows, []);
  });

  test("as a superuser: a partitioned table that comes is captured in the transaction that makes it", async (t) => {
    const { database, build, told } = await scene(t, "", { owner: false });
    await build();
    await database.query(`begin; ${SALES} insert into sales values ('us', 2, 5); truncate sales_us; commit`);
    assert.deepEqual(await told(), ['I public.sales ["us",2] sales_us', "T public.sales_us"]);
    assert.equal((await build()).changed, false);
  });
});

describe("an inheritance tree", () => {
  const CITIES = `
    create table cities (name text primary key, size integer);
    create table capitals (country text, primary key (name)) inherits (cities);`;

  test("each row is an event of the table that holds it, with all its columns, whatever the statement names", async (t) => {
    const { database, build, told } = await scene(t, CITIES);
    assert.equal((await build()).tables, 2);
    await database.query(
      "insert into cities values ('Graz', 1); insert into capitals values ('Wien', 2, 'AT')",
    );
    await database.query(
      "update cities set size = size + 1; delete from only cities; update capitals set country = 'Austria'",
    );
    assert.deepEqual(await told(), [
      'I public.cities ["Graz"]',
      'I public.capitals ["Wien"]',
      'U public.cities ["Graz"]',
      'U public.capitals ["Wien"]',
      'D public.cities ["Graz"]',
      'U public.capitals ["Wien"]',
    ]);
  });

  test("a table that gets a child, or loses its last one, changes its triggers at the next build", async (t) => {
    const { database, build, told } = await scene(t, "create table cities (name text primary key)");
    await build();
    await database.query("create table capitals (primary key (name)) inherits (cities)");
    assert.equal((await build()).changed, true);
    await database.query("insert into capitals values ('Wien'); update cities set name = 'Vienna'");
    assert.deepEqual(await told(), ['I public.capitals ["Wien"]', 'U public.capitals ["Vienna"]']);
    await database.query("alter table capitals no inherit cities");
    assert.equal((await build()).changed, true);
    await database.query("insert into cities values ('Graz')");
    assert.deepEqual(await told(), ['I public.cities ["Graz"]']);
    assert.equal((await build()).changed, false);
  });
});
