/** Values: each can be had back, exactly, from what is captured of it; the text is what a relay passes on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type CaptureScene, captured } from "../support/capture-scene.ts";

/** The values of each type, as SQL. What every type can be is in test/support/type-cases.ts; here are the ends of it. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  smallint: ["-32768", "32767"],
  bigint: ["-9223372036854775808", "9223372036854775807"],
  numeric: [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "0.00",
    "-1.10",
    "1e-16383",
    "repeat('9', 131072)::numeric",
    "('-' || repeat('8', 1000) || '.' || repeat('7', 16383))::numeric",
  ],
  real: ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "3.4028235e38", "1e-45", "16777217"],
  float8: [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "'-0'",
    "1.7976931348623157e308",
    "5e-324",
    "0.1::float8 + 0.2",
  ],
  date: ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"],
  timestamp: ["'infinity'", "'-infinity'", "'4713-01-01 00:00 BC'", "'294276-12-31 23:59:59.999999'"],
  timestamptz: ["'infinity'", "'-infinity'", "'4713-01-01 00:00+00 BC'", "'2026-03-29 01:59:59.999999+01'"],
  time: ["'00:00'", "'24:00'", "'23:59:59.999999'"],
  timetz: ["'24:00+15:59'", "'23:59:59.999999-15:59:59'"],
  interval: ["'0'", "'-1 mon +1 day -00:00:00.000001'", "'178000000 years'", "'-178000000 years'"],
  bytea: ["''", "'\\x00'", "decode(string_agg_of_bytes(), 'hex')"],
  "bit(5)": ["b'10101'"],
  varbit: ["b''", "repeat('10', 500)::varbit"],
  inet: ["'::ffff:1.2.3.4/128'", "'10.1.2.3/8'", "'2001:db8::1/64'"],
  cidr: ["'0.0.0.0/0'", "'::/0'", "'2001:db8::/32'"],
  macaddr8: ["'08:00:2b:ff:fe:01:02:03'"],
  money: ["'-92233720368547758.08'", "'92233720368547758.07'", "0"],
  xml: [`'<a b="&lt;&#x1F989;"><![CDATA[ "x" ]]></a>'`, "'text <b/>'"],
  tsvector: [`'''it''''s'':1A,2B ''\\\\'' "🦉"'`],
  tsquery: ["'a <-> b & !(c:*A | d)'"],
  jsonb: [
    `'{"b": 1e1000, "a": 1.10, "a": "\\ud83d\\ude00", "": {}}'`,
    "'\"\\\\\"'",
    "'[[], null]'",
    "'12345678901234567890.123456789'",
  ],
  json: [`'{"b": 1e400,  "a":1.10, "a" : "\\u20ac\\/", "": [ ] }'`, `E'[\\n\\t1 ,2\\n]'`],
  "integer[]": ["'{}'", "'{NULL}'", "'{{{1},{2}},{{3},{NULL}}}'"],
  "text[]": [`'{NULL,"NULL","",","," a ","\\"","\\\\","{}"}'`],
  "mood[]": [`'{"a ""b""",sad,NULL}'`.replace('""b""', '\\"b\\"')],
  "timestamptz[]": ["'{infinity,\"2026-01-02 03:04:05.6+00\"}'"],
  "bytea[]": ["array['\\x00ff5c22'::bytea, null, '']"],
  "jsonb[]": [`array['{"a": [1, "]"]}'::jsonb, '"x"']`],
  int8range: ["'empty'", "'(,)'", "'[-9223372036854775808,5)'"],
  numrange: ["'[1.10,1.1000]'", "'(,NaN]'"],
  tstzrange: ["'[-infinity,infinity]'", "'(\"2026-01-02 03:04:05.6+00\",)'"],
  datemultirange: ["'{}'", "'{[2026-01-01,2026-02-01),[2027-01-01,)}'"],
  "numrange[]": ["array[numrange(1,2), null, 'empty']"],
  text_range: [`text_range('a,"b\\(', E'c\\n]')`],
  pair: ["row(1, 'a,\"b\" (c)\\', '{1,NULL}')", "row(null, '', '{}')", "null::pair"],
  "pair[]": ["array[row(1, 'x\"y', null)::pair, null]"],
  nested: ["row(row(1, 'a', '{1}'), array[row(2, 'b', null)::pair], '[1,2)', 'sad')"],
  short_text: ["'é'"],
  pair_domain: ["row(1, '\"', '{}')::pair"],
  mood: ["'sad'", "E'a \"b\"'"],
  geometry: ["point_of(1.5, -2)"],
};

const TYPES = `
  create function string_agg_of_bytes() returns text language sql as $$ select string_agg(lpad(to_hex(i), 2, '0'), '' order by i) from generate_series(0, 255) as i $$;
  create type mood as enum ('sad', 'a "b"');
  create type pair as (a integer, b text, c integer[]);
  create domain pair_domain as pair check (value is null or (value).a > 0);
  create domain short_text as text check (length(value) < 3);
  create type text_range as range (subtype = text, collation = "C");
  create type nested as (one pair, many pair[], span int4range, feeling mood);
  create domain geometry as bytea check (octet_length(value) = 21);
  create function point_of(float8, float8) returns geometry language sql as $$ select ('\\x0101000000'::bytea || float8send($1) || float8send($2))::geometry $$;`;

/** The images of `table` that do not make the row again that they tell of, to the last digit. */
async function lossy({ query, told }: CaptureScene, table: string): Promise<(string | undefined)[]> {
  const images = (await told()).map((event) => event.new);
  const { rows } = await query<{ image: string }>(
    `select left(image, 300) as image from unnest($1::text[]) as image
    cross join json_populate_record(null::${table}, image::json) as again
    where not exists (select from ${table} as row where row.id = again.id and row::text = again::text)`,
    [images],
  );
  return rows.map(({ image }) => image);
}

describe("values", () => {
  test("of every type are in the event as they are in the row: it makes the same row again", async (t) => {
    const types = Object.keys(VALUES);
    const columns = types.map((type, index) => `c${index} ${type}`).join(", ");
    const scene = await captured(
      t,
      `${TYPES} create table v (id integer generated always as identity primary key, ${columns})`,
    );
    for (const [index, type] of types.entries())
      for (const value of VALUES[type] ?? [])
        await scene.query(`insert into v (c${index}) values (${value})`);
    assert.deepEqual(await lossy(scene, "v"), []);
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
