/** Keys of every type, and columns of every name. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captured } from "../support/capture-scene.ts";

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

describe("keys", () => {
  /** Type, then two values with the JSON of each. */
  const KEYS: readonly (readonly [string, string, string, string, string])[] = [
    [
      "uuid",
      "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
      '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"',
      "'00000000-0000-0000-0000-000000000000'",
      '"00000000-0000-0000-0000-000000000000"',
    ],
    ["text", `E'a "b"\\\\\\n\\u2028\\U0001F989'`, '"a \\"b\\"\\\\\\n\u2028🦉"', "''", '""'],
    ["varchar(5)", "'[1]'", '"[1]"', "'null'", '"null"'],
    ["char(4)", "'ab'", '"ab  "', "'ab c'", '"ab c"'],
    ["bigint", "9223372036854775807", "9223372036854775807", "-9223372036854775808", "-9223372036854775808"],
    ["numeric", "1.10", "1.10", "'NaN'", '"NaN"'],
    ["float8", "0.1::float8 + 0.2", "0.30000000000000004", "'-Infinity'", '"-Infinity"'],
    ["boolean", "true", "true", "false", "false"],
    ["date", "'0044-03-15 BC'", '"0044-03-15 BC"', "'infinity'", '"infinity"'],
    [
      "timestamp",
      "'2026-01-02 03:04:05.000001'",
      '"2026-01-02T03:04:05.000001"',
      "'-infinity'",
      '"-infinity"',
    ],
    ["bytea", "'\\x00ff5c'", '"\\\\x00ff5c"', "''", '"\\\\x"'],
    ["inet", "'::1/64'", '"::1/64"', "'10.0.0.1'", '"10.0.0.1"'],
    ["mood", "'it''s'", '"it\'s"', "'sad'", '"sad"'],
    ["positive", "1", "1", "2", "2"],
    ["pair", "row(1, 'a')", '{"a":1,"b":"a"}', "row(null, '\"')", '{"a":null,"b":"\\""}'],
    ["integer[]", "'{{1,2},{3,null}}'", "[[1,2],[3,null]]", "'{}'", "[]"],
    ["int4range", "'[1,5]'", '"[1,6)"', "'empty'", '"empty"'],
    ["jsonb", `'{"b":1,"a":[null]}'`, '{"a": [null], "b": 1}', "'1.0'", "1.0"],
    ["oid", "4294967295", '"4294967295"', "0", '"0"'],
    ["pg_lsn", "'0/10'", '"0/10"', "'1/0'", '"1/0"'],
  ];

  test("of every type that can be one", async (t) => {
    const tables = KEYS.map(([type], index) => `create table k${index} (id ${type} primary key);`);
    const { query, told } = await captured(
      t,
      `create type mood as enum ('sad', 'it''s'); create domain positive as integer check (value > 0);
      create type pair as (a integer, b text); ${tables.join("\n")}`,
    );
    for (const [index, [type, one, oneJson, other, otherJson]] of KEYS.entries()) {
      await query(
        `insert into k${index} values (${one}); update k${index} set id = ${other}; delete from k${index}`,
      );
      assert.deepEqual(
        (await told()).map(({ key, oldKey }) => [oldKey, key]),
        [
          [null, `[${oneJson}]`],
          [`[${oneJson}]`, `[${otherJson}]`],
          [null, `[${otherJson}]`],
        ],
        type,
      );
    }
  });

  test("deferrable ones, with INCLUDE, of 32 columns, and over columns in another order", async (t) => {
    const many = Array.from({ length: 32 }, (_, index) => `c${index}`);
    const { query, lines } = await captured(
      t,
      `create table swapped (id integer primary key deferrable initially deferred, n integer);
      create table including (a integer, b integer, c integer, primary key (b) include (a));
      create table many (${many.map((name) => `${name} integer`).join(", ")}, primary key (${many.toReversed().join(", ")}));
      create table plain (a integer, b integer not null, c integer not null, unique (a));
      alter table plain add primary key (c, b)`,
    );
    await query(
      "insert into swapped values (1, 1), (2, 2); begin; update swapped set id = 2 where n = 1; update swapped set id = 1 where n = 2; commit",
    );
    assert.deepEqual((await lines()).slice(2), ["Update swapped [1]>[2]", "Update swapped [2]>[1]"]);
    await query(`insert into including values (1, 2, 3); insert into plain values (1, 2, 3);
      insert into many values (${many.map((_, index) => index).join(", ")})`);
    const reversed = many
      .map((_, index) => index)
      .reverse()
      .join(",");
    assert.deepEqual(await lines(), [
      "Insert including [2]",
      "Insert plain [3,2]",
      `Insert many [${reversed}]`,
    ]);
  });
});

test("columns of every name, in the key or beside it", async (t) => {
  const names = [
    ..."n o old new key old_key image position value name id xid at segment operation context".split(" "),
    ..."pgevents_new pgevents_old new_row old_row pair select user current_segment".split(" "),
    ...[
      '"',
      '""',
      "'",
      "\\",
      "a.b",
      " ",
      "$1",
      "{}",
      "%s",
      "--",
      "/*",
      "\t\n",
      "é",
      "🦉",
      "\u2028",
      "__proto__",
    ],
    "x".repeat(63),
    "ü".repeat(31),
  ];
  const columns = names.map((name) => `${quoted(name)} integer`).join(", ");
  const { query, told } = await captured(
    t,
    `create table beside (${columns}); ${names.map((name, index) => `create table k${index} (${quoted(name)} integer primary key, n_ integer);`).join(" ")}`,
  );
  await query(`insert into beside values (${names.map((_, index) => index).join(", ")})`);
  const [beside] = await told();
  assert.deepEqual(
    Object.entries(JSON.parse(beside?.new ?? "")),
    names.map((name, index) => [name, index]),
  );
  for (const [index, name] of names.entries()) {
    await query(
      `insert into k${index} values (1, 0); update k${index} set ${quoted(name)} = 2; delete from k${index}`,
    );
    const events = await told();
    assert.deepEqual(
      events.map(({ key, oldKey }) => [oldKey, key]),
      [
        [null, "[1]"],
        ["[1]", "[2]"],
        [null, "[2]"],
      ],
      name,
    );
    assert.deepEqual(
      JSON.parse(events[2]?.old ?? ""),
      JSON.parse(`{${JSON.stringify(name)}: 2, "n_": 0}`),
      name,
    );
  }
});
