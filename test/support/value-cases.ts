/** Values of the types of PostgreSQL, and whether a row image holds them to the last digit. */
import type { TestDatabase } from "./postgres.ts";

/** The values of each type, as SQL. What every type can be is in test/support/type-cases.ts; here are the ends of it. */
export const VALUES: Readonly<Record<string, readonly string[]>> = {
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

/** What some of them are made of. */
export const VALUE_TYPES = `
  create function string_agg_of_bytes() returns text language sql as $$ select string_agg(lpad(to_hex(i), 2, '0'), '' order by i) from generate_series(0, 255) as i $$;
  create type mood as enum ('sad', 'a "b"');
  create type pair as (a integer, b text, c integer[]);
  create domain pair_domain as pair check (value is null or (value).a > 0);
  create domain short_text as text check (length(value) < 3);
  create type text_range as range (subtype = text, collation = "C");
  create type nested as (one pair, many pair[], span int4range, feeling mood);
  create domain geometry as bytea check (octet_length(value) = 21);
  create function point_of(float8, float8) returns geometry language sql as $$ select ('\\x0101000000'::bytea || float8send($1) || float8send($2))::geometry $$;`;

/** The images of `table` that do not make the row again that they tell of, by its id, to the last digit. */
export async function lossyImages(
  { query }: TestDatabase,
  table: string,
  images: readonly (string | null)[],
): Promise<(string | undefined)[]> {
  const { rows } = await query<{ image: string }>(
    `select left(image, 300) as image from unnest($1::text[]) as image
    cross join json_populate_record(null::${table}, image::json) as again
    where not exists (select from ${table} as row where row.id = again.id and row::text = again::text)`,
    [images],
  );
  return rows.map(({ image }) => image);
}
