/** Events of a statement on many rows, several of which share a row of the outbox (sql/functions_packing.sql). */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { OutboxCursor } from "../../src/worker/outbox-cursor.ts";
import { type CaptureScene, captured } from "../support/capture-scene.ts";
import { connect } from "../support/postgres.ts";
import { lossyImages, VALUE_TYPES, VALUES } from "../support/value-cases.ts";

const NAMES = captureNames("pgevents");
const ORDERS = "create table orders (id integer primary key, n integer, note text)";
const upTo = (count: number, from = 1) => Array.from({ length: count }, (_, index) => from + index);

/** Rows of the outbox that hold several events. */
async function shared({ query }: Pick<CaptureScene, "query">): Promise<number> {
  const { rows } = await query<{ count: number }>(
    "select count(*)::integer as count from pgevents.outbox where cardinality(ids) > 1",
  );
  return rows[0]?.count ?? 0;
}

/** The images as SQL reads them, for what stays in the database: parked events, dead letters, replays. */
async function stored({ query }: CaptureScene): Promise<unknown[]> {
  const { rows } = await query(
    "select id::text, key, old_key, old, new from pgevents.change_events() where operation in ('I', 'U', 'D') order by change_events.id",
  );
  return rows;
}

describe("many rows of one statement", () => {
  test("come in the order in which they were written, each with its own id, old beside new", async (t) => {
    const scene = await captured(t, ORDERS);
    await scene.query("insert into orders select i, i, 'é🦉' || i from generate_series(1, 3000) as i");
    assert.deepEqual(
      await scene.lines(),
      upTo(3000).map((id) => `Insert orders [${id}]`),
    );
    assert.ok((await shared(scene)) > 15);
    await scene.query("update orders set n = n + 1");
    const updates = await scene.told();
    for (const { id, old, new: now } of updates) {
      const [before, after] = [old, now].map((image) => JSON.parse(image ?? ""));
      assert.deepEqual(after, { ...before, n: before.n + 1 }, id);
    }
    assert.deepEqual(
      updates.map(({ key, oldKey }) => [key, oldKey]),
      upTo(3000).map((id) => [`[${id}]`, null]),
    );
    await scene.query("update orders set id = id + 5000");
    assert.deepEqual(
      await scene.lines(),
      upTo(3000).map((id) => `Update orders [${id}]>[${id + 5000}]`),
    );
    await scene.query("delete from orders where id % 2 = 0");
    const deleted = await scene.told();
    assert.deepEqual(
      deleted.map(({ old, new: now }) => [JSON.parse(old ?? ""), now]),
      upTo(1500).map((half) => [{ id: 5000 + 2 * half, n: 2 * half + 1, note: `é🦉${2 * half}` }, null]),
    );
    const ids = await stored(scene);
    assert.equal(new Set(ids.map((row) => (row as { id: string }).id)).size, 10_500);
  });

  test("of every type, hold each value to the last digit, read by a worker and in the database", async (t) => {
    const types = Object.keys(VALUES);
    const scene = await captured(
      t,
      `${VALUE_TYPES} create table v (id integer generated always as identity primary key, ${types.map((type, index) => `c${index} ${type}`).join(", ")})`,
    );
    for (const [index, type] of types.entries())
      for (const value of VALUES[type] ?? [])
        await scene.query(`insert into v (c${index}) values (${value})`);
    const columns = types.map((_, index) => `c${index}`).join(", ");
    await scene.query(
      `insert into v (${columns}) select ${columns} from v cross join generate_series(1, 4) as i order by random()`,
    );
    assert.ok((await shared(scene)) > 0);
    await scene.query("update v set c0 = 0");
    const events = await scene.told();
    const inserts = events.filter(({ operation }) => operation === "Insert");
    const updates = events.filter(({ operation }) => operation === "Update");
    assert.deepEqual(
      await lossyImages(
        scene,
        "v",
        updates.map((event) => event.new),
      ),
      [],
    );
    const written = new Map(inserts.map((event) => [event.key, event.new]));
    for (const { key, old } of updates) assert.equal(old, written.get(key));
    assert.deepEqual(
      await stored(scene),
      events.map(({ id, key, oldKey, old, new: now }) => ({ id, key, old_key: oldKey, old, new: now })),
    );
  });

  test("with columns of any name, whatever the session's settings are", async (t) => {
    const names = [
      "id",
      "%s",
      "$1",
      "'",
      '"',
      "\\",
      "\\u0041\u007f2",
      "é🦉\n\t",
      "__proto__",
      "n1",
      "o",
      "}",
    ];
    const columns = names.map((name) => `"${name.replaceAll('"', '""')}"`);
    const scene = await captured(
      t,
      `create table v (${columns.map((column, index) => `${column} ${index === 0 ? "integer primary key" : "json"}`).join(", ")})`,
    );
    await scene.query(
      "set standard_conforming_strings = off; set quote_all_identifiers = on; set datestyle = 'German'; set work_mem = '64kB'",
    );
    const value = String.raw`{"\\u0000": "\ud800\\\"", "a" : [ 1.10, {} ] }`;
    await scene.query(
      `insert into v select i${", $1::text::json".repeat(names.length - 1)} from generate_series(1, 600) as i`,
      [value],
    );
    assert.ok((await shared(scene)) > 0);
    const { rows } = await scene.query<{ memory: string }>("select current_setting('work_mem') as memory");
    assert.equal(rows[0]?.memory, "64kB", "as the writer had it");
    const events = await scene.told();
    assert.deepEqual(
      events.map((event) => event.new),
      upTo(600).map(
        (id) =>
          `{${names.map((name, index) => `${JSON.stringify(name)}:${index === 0 ? id : value}`).join(",")}}`,
      ),
    );
    assert.deepEqual(
      await stored(scene),
      events.map(({ id, key, new: now }) => ({ id, key, old_key: null, old: null, new: now })),
    );
  });

  test("with one column, and up to a hundred", async (t) => {
    const counts = [1, 48, 49, 96, 97, 100];
    const columns = (count: number) => upTo(count - 1).map((n) => `, c${n} integer default ${n}`);
    const scene = await captured(
      t,
      counts
        .map((count) => `create table t${count} (id integer primary key${columns(count).join("")})`)
        .join(";"),
    );
    for (const count of counts) {
      await scene.query(`insert into t${count} select i from generate_series(1, 400) as i`);
      await scene.query(`update t${count} set id = -id`);
      const events = await scene.told();
      const image = (id: number) =>
        `{"id":${id}${upTo(count - 1)
          .map((n) => `,"c${n}":${n}`)
          .join("")}}`;
      assert.deepEqual(
        events.map(({ old, new: now }) => [old, now]),
        [...upTo(400).map((id) => [null, image(id)]), ...upTo(400).map((id) => [image(id), image(-id)])],
      );
    }
    assert.ok((await shared(scene)) >= 4 * counts.length);
  });

  test("some of them large: these have rows of their own, and all come in their order", async (t) => {
    const scene = await captured(t, `${ORDERS}; alter table orders add column document jsonb`);
    await scene.query(`insert into orders
      select i, i, case when i % 100 = 0 then repeat('x', i * 20) when i = 777 then repeat(chr(1), 1000000) end,
        case when i % 150 = 0 then to_jsonb(repeat('y', 100000)) end
      from generate_series(1, 1500) as i`);
    await scene.query("update orders set n = 0");
    const events = await scene.told();
    const inserts = events.slice(0, 1500);
    assert.deepEqual(
      inserts.map(({ operation, key }) => `${operation} ${key}`),
      upTo(1500).map((id) => `Insert [${id}]`),
    );
    const updates = events.slice(1500);
    const images = updates.map((event) => event.new);
    assert.deepEqual(await lossyImages(scene, "orders", images), []);
    assert.deepEqual(
      new Map(updates.map(({ key, old }) => [key, old])),
      new Map(inserts.map((event) => [event.key, event.new])),
    );
    await scene.query("delete from orders");
    const deleted = await scene.told();
    assert.deepEqual(
      new Map(deleted.map(({ key, old }) => [key, old])),
      new Map(updates.map((event) => [event.key, event.new])),
    );
    const { rows } = await scene.query<{ most: number }>(
      "select max(coalesce(pg_column_size(old_columns), 0) + coalesce(pg_column_size(new_columns), 0))::integer as most from pgevents.outbox where cardinality(ids) > 1",
    );
    assert.ok(Number(rows[0]?.most) < 100_000, `${rows[0]?.most} bytes`);
  });

  test("that take more as JSON than a read holds of them are read one by one", async (t) => {
    const columns = upTo(4).map((n) => `c${n}`);
    const scene = await captured(
      t,
      `create table bulky (id integer primary key, ${columns.map((name) => `${name} text`)})`,
    );
    const value = "\u0001".repeat(2000);
    await scene.query(
      `insert into bulky select i, ${columns.map(() => "repeat(chr(1), 2000)")} from generate_series(1, 270) as i`,
    );
    await scene.query("update bulky set id = -id");
    assert.ok((await shared(scene)) > 0);
    const events = await scene.told();
    const image = (id: number) => ({ id, ...Object.fromEntries(columns.map((name) => [name, value])) });
    assert.deepEqual(
      events.map(({ key, oldKey, old, new: now }) => [
        key,
        oldKey,
        old && JSON.parse(old),
        JSON.parse(now ?? ""),
      ]),
      [
        ...upTo(270).map((id) => [`[${id}]`, null, null, image(id)]),
        ...upTo(270).map((id) => [`[${-id}]`, `[${id}]`, image(id), image(-id)]),
      ],
    );
  });

  test("are not put together where columns are many, or characters of the database may have to be replaced", async (t) => {
    const wide = await captured(
      t,
      `create table wide (id integer primary key, ${upTo(100).map((n) => `c${n} text`)})`,
    );
    const latin = await captured(t, "create table wide (id integer primary key, c1 text)", {
      encoding: "LATIN1",
    });
    for (const scene of [wide, latin]) {
      await scene.query("insert into wide select i, 'é' from generate_series(1, 400) as i");
      await scene.query("update wide set c1 = 'è'");
      await scene.query("delete from wide");
      const events = await scene.told();
      assert.deepEqual(
        events.map(({ operation, key }) => `${operation} ${key}`),
        ["Insert", "Update", "Delete"].flatMap((operation) => upTo(400).map((id) => `${operation} [${id}]`)),
      );
      for (const { old, new: now } of events.slice(400, 800))
        assert.deepEqual([JSON.parse(old ?? "").c1, JSON.parse(now ?? "").c1], ["é", "è"]);
      assert.equal(await shared(scene), 0);
    }
  });

  test("have the columns of their time, whatever becomes of these before they are read", async (t) => {
    const scene = await captured(t, ORDERS);
    await scene.query("alter table orders drop column n; alter table orders add column m integer default 7");
    await scene.query("insert into orders (id, note) select i, 'a' from generate_series(1, 500) as i");
    await scene.query("alter table orders rename column note to text; alter table orders drop column m");
    await scene.query("update orders set text = 'b'");
    const events = await scene.told();
    assert.deepEqual(
      events.map(({ key, new: now }) => [key, now]),
      [
        ...upTo(500).map((id) => [`[${id}]`, `{"id":${id},"note":"a","m":7}`]),
        ...upTo(500).map((id) => [`[${id}]`, `{"id":${id},"text":"b"}`]),
      ],
    );
  });

  test("G1 of several writers at once, whose ids are mixed, are read once each from any position", async (t) => {
    const scene = await captured(t, ORDERS);
    const writers = await Promise.all(upTo(4).map(() => connect(t, scene.url)));
    await Promise.all(
      writers.map((writer, index) =>
        writer.query(
          "insert into orders select i, 1, 'a' from generate_series($1::integer, $1 + 2999) as i",
          [1 + index * 3000],
        ),
      ),
    );
    const events = await scene.told();
    assert.deepEqual(
      events.map(({ key }) => Number(key?.slice(1, -1))).sort((a, b) => a - b),
      upTo(12_000),
    );
    const pool = createPool(scene.settings, "worker", 1);
    t.after(() => pool.end());
    const { rows } = await scene.query<{ now: string }>("select pg_current_snapshot()::text as now");
    for (const at of [300, 1000, 5001, 11_999]) {
      const aheadId = events[at - 1]?.id ?? "";
      const cursor = new OutboxCursor(new OutboxReader(pool, NAMES), {
        seen: "3:3:",
        ahead: rows[0]?.now ?? "",
        aheadId,
      });
      const rest: string[] = [];
      for (let complete = false; !complete; ) {
        const read = await cursor.read();
        rest.push(
          ...(read?.rows ?? []).flatMap(({ event }) => (event.operation === "Insert" ? [event.id] : [])),
        );
        complete = read?.complete ?? true;
      }
      assert.deepEqual(
        rest,
        events.slice(at).map(({ id }) => id),
        `after ${at}`,
      );
    }
  });

  test("G2 shared out among workers, each goes to the holder of its lane, with the key that it has otherwise", async (t) => {
    const scene = await captured(t, ORDERS);
    await scene.query("insert into orders select i, 1, 'a' from generate_series(1, 900) as i");
    await scene.query("update orders set id = -id where id % 3 = 0");
    const events = await scene.told();
    const pool = createPool(scene.settings, "worker", 1);
    t.after(() => pool.end());
    const reader = new OutboxReader(pool, NAMES);
    const { rows } = await scene.query<{ now: string; last: string }>(
      "select pg_current_snapshot()::text as now, (select last_value::text from pgevents.outbox_id) as last",
    );
    const read = async (lanes: number) => {
      const all = [];
      for (let after = "0", complete = false; !complete; ) {
        const slice = await reader.readSlice("3:3:", rows[0]?.now ?? "", after, rows[0]?.last ?? "", lanes);
        all.push(...slice.rows.filter(({ event }) => event.operation !== "SchemaChange"));
        ({ upTo: after, complete } = slice);
      }
      return all;
    };
    const [some, others] = [await read(0x0000ffff), await read(0xffff0000)];
    const crossing = some.filter((one) => one.crossing !== undefined).map(({ event }) => event.id);
    assert.ok(crossing.length > 50 && crossing.length < 300, "keys that change go from lane to lane");
    assert.equal(some.length + others.length, events.length + crossing.length);
    const told = new Map([...some, ...others].map(({ event }) => [event.id, event]));
    assert.deepEqual(
      events.map(({ id }) => told.get(id)),
      events,
    );
  });
});
