/** Values: each can be had back, exactly, from what is captured of it; the text is what a relay passes on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captured } from "../support/capture-scene.ts";
import { lossyImages, VALUE_TYPES, VALUES } from "../support/value-cases.ts";

describe("values", () => {
  test("of every type are in the event as they are in the row: it makes the same row again", async (t) => {
    const types = Object.keys(VALUES);
    const columns = types.map((type, index) => `c${index} ${type}`).join(", ");
    const scene = await captured(
      t,
      `${VALUE_TYPES} create table v (id integer generated always as identity primary key, ${columns})`,
    );
    for (const [index, type] of types.entries())
      for (const value of VALUES[type] ?? [])
        await scene.query(`insert into v (c${index}) values (${value})`);
    assert.deepEqual(
      await lossyImages(
        scene,
        "v",
        (await scene.told()).map((event) => event.new),
      ),
      [],
    );
  });

  test("json is passed on as it was written, jsonb as PostgreSQL prints it", async (t) => {
    const { query, told } = await captured(t, "create table v (a json, b jsonb)");
    const text = '{"b":1e400,\n "a":1.10, "a": 123456789012345678901234567890, "\\u20ac":"\\/"}';
    await query("insert into v values ($1::text::json, $1::text::jsonb)", [text.replace("1e400", "1e40")]);
    await query("insert into v (a) values ($1)", [text]);
    const [both, one] = await told();
    const printed = `{"a": 123456789012345678901234567890, "b": 1${"0".repeat(40)}, "€": "/"}`;
    assert.equal(both?.new, `{"a":${text.replace("1e400", "1e40")},"b":${printed}}`);
    assert.equal(one?.new, `{"a":${text},"b":null}`);
  });

  test("text of every character there is, plane by plane: controls, marks without a letter, noncharacters", async (t) => {
    const { query, told } = await captured(t, "create table v (plane integer primary key, note text)");
    await query(`insert into v select plane, string_agg(chr(i), '' order by i)
      from generate_series(0, 16) as plane, generate_series(plane * 65536, plane * 65536 + 65535) as i
      where i > 0 and i not between 55296 and 57343 group by plane order by plane`);
    const rows = (await told()).map(
      (event) => JSON.parse(event.new ?? "") as { plane: number; note: string },
    );
    assert.equal(rows.length, 17);
    for (const { plane, note } of rows) {
      const points = Array.from({ length: 65536 }, (_, index) => plane * 65536 + index);
      const characters = points.filter((point) => point > 0 && !(point >= 0xd800 && point <= 0xdfff));
      assert.ok(note === characters.map((point) => String.fromCodePoint(point)).join(""), `plane ${plane}`);
    }
  });

  test("NUL is no character of a text in PostgreSQL; in bytea it is a byte", async (t) => {
    const { query, told } = await captured(t, "create table v (note text, bytes bytea)");
    await assert.rejects(query("insert into v (note) values (chr(0))"), { code: "54000" });
    await assert.rejects(query("insert into v (note) values ($1)", ["a\0b"]), { code: "22021" });
    await query("insert into v (bytes) values ($1)", [Buffer.from("a\0b")]);
    assert.deepEqual(
      (await told()).map((event) => event.new),
      ['{"note":null,"bytes":"\\\\x610062"}'],
    );
  });

  for (const storage of ["extended", "external", "main", "plain"])
    test(`1 MB, stored ${storage}: an update that does not touch it carries it whole`, async (t) => {
      const { query, told } = await captured(
        t,
        `create table v (id integer primary key, n integer, note text, bytes bytea); alter table v alter note set storage ${storage}`,
      );
      if (storage === "plain") {
        await assert.rejects(query("insert into v (id, note) values (1, repeat('x', 1000000))"), {
          code: "54000",
        });
        return;
      }
      const note =
        storage === "main"
          ? "x".repeat(1_000_000)
          : Array.from({ length: 40_000 }, (_, i) => `"${i}\n${i * i}`).join("");
      await query("insert into v values (1, 1, $1, $2)", [note, Buffer.alloc(500_000, 0xa5)]);
      await query("update v set n = 2; update v set id = 2; delete from v");
      const events = await told();
      for (const { old, new: now } of events)
        for (const image of [old, now]) {
          const row = JSON.parse(image ?? "null") as { note: string; bytes: string } | null;
          assert.ok(row === null || (row.note === note && row.bytes === `\\x${"a5".repeat(500_000)}`));
        }
      assert.deepEqual(
        events.map(({ key, oldKey, old, new: now }) => [oldKey, key, old !== null, now !== null]),
        [
          [null, "[1]", false, true],
          [null, "[1]", true, true],
          ["[1]", "[2]", true, true],
          [null, "[2]", true, false],
        ],
      );
    });

  test("20 MB", async (t) => {
    const { query, told } = await captured(
      t,
      "create table v (id integer primary key, n integer, note text)",
    );
    await query(
      "insert into v values (1, 1, (select string_agg(repeat(md5(i::text), 100), '') from generate_series(1, 6554) as i))",
    );
    await query("update v set n = 2");
    const { rows } = await query<{ note: string }>("select note from v");
    const images = (await told())
      .flatMap(({ old, new: now }) => [old, now])
      .filter((image) => image !== null);
    assert.deepEqual(
      images.map(({ length }) => length > 20_000_000),
      [true, true, true],
    );
    for (const image of images) assert.ok(JSON.parse(image).note === rows[0]?.note);
  });

  test("of columns that fill themselves: defaults, identity, serial, stored, and what a trigger puts in", async (t) => {
    const { query, told } = await captured(
      t,
      `create function shout() returns trigger language plpgsql as $$ begin new.loud := upper(new.name); return new; end $$;
      create table v (
        id integer generated always as identity primary key, number serial, other integer generated by default as identity (start 10),
        name text default 'e', at date default '2026-01-02', loud text, twice integer generated always as (id * 2) stored, empty text);
      create trigger shout before insert or update on v for each row execute function shout()`,
    );
    await query(
      "insert into v default values; insert into v (id, other, name) overriding system value values (7, 8, default)",
    );
    await query("update v set name = default, at = default, number = default where id = 1");
    const rows = (await told()).map((event) => JSON.parse(event.new ?? ""));
    const row = (id: number, number: number, other: number) => {
      return { id, number, other, name: "e", at: "2026-01-02", loud: "E", twice: 2 * id, empty: null };
    };
    assert.deepEqual(rows, [row(1, 1, 10), row(7, 2, 8), row(1, 3, 10)]);
  });
});

describe("databases in other encodings", () => {
  for (const encoding of ["LATIN1", "LATIN2", "WIN1252", "EUC_JP", "SQL_ASCII"])
    test(encoding, async (t) => {
      const text = { LATIN2: "ł", EUC_JP: "日本", SQL_ASCII: "é日🦉" }[encoding] ?? "é";
      const scene = await captured(t, `create table v ("${text}" text primary key, n integer)`, { encoding });
      assert.equal((await scene.build()).changed, false);
      await scene.query("insert into v values ($1, 1)", [`"${text}\\`]);
      await scene.query("update v set n = 2");
      const events = await scene.told();
      assert.deepEqual(
        events.map(({ key, new: now }) => [key, now]),
        [1, 2].map((n) => [`["\\"${text}\\\\"]`, `{"${text}":"\\"${text}\\\\","n":${n}}`]),
      );
    });
});
