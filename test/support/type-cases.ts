/** Types of PostgreSQL, values of them, and what is captured of these. */

const WORDS = ["'NaN'", "'Infinity'", "'-Infinity'"];

export interface TypeCase {
  readonly sql: string;
  /** In TypeScript, but for null. */
  readonly type: string;
  /** As SQL, with the JSON that is captured. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** What everything below is made of. */
export const DEFINITIONS = `
  create type mood as enum ('glad', 'sad', 'it''s "so" */');
  create type nothing as enum ();
  create domain positive as integer check (value > 0);
  create domain needed as integer not null;
  create domain price as numeric(6, 2);
  create domain nested_domain as price;
  create domain moods as mood[];
  create domain grid as integer[];
  create domain document as jsonb;
  create type point3 as (x integer, y numeric, "z ""z" mood, n needed);
  create type line3 as (a point3, b point3[], at timestamptz);
  create type no_field as ();
  create domain place as point3 check ((value).x > 0);
  create type float_range as range (subtype = float8);
  create table named (id integer not null, note text);
  create type told as enum ('a', 'b');
  create function json_of(told) returns json language sql immutable as $$ select '[17]'::json $$;
  create cast (told as json) with function json_of(told);
  create type untold as enum ('a', 'b');
  create cast (untold as json) with inout;
  create type holder as (told told, told_list told[]);
  create domain told_domain as told;`;

export const CASES: readonly TypeCase[] = [
  { sql: "smallint", type: "number", values: { "-32768": -32768 } },
  { sql: "integer", type: "number", values: { "2147483647": 2147483647 } },
  {
    sql: "bigint",
    type: "number",
    values: { "9007199254740991": 9007199254740991, "9223372036854775807": 2 ** 63 },
  },
  { sql: "numeric", type: "Float", values: { ...words(WORDS), "1.50": 1.5, "1e30": 1e30 } },
  { sql: "numeric(10,2)", type: 'number | "NaN"', values: { ...words(["'NaN'"]), "1.5": 1.5 } },
  { sql: "real", type: "Float", values: { ...words(WORDS), "1e-30": 1e-30 } },
  { sql: "double precision", type: "Float", values: { ...words(WORDS), "1e300": 1e300 } },
  { sql: "boolean", type: "boolean", values: { true: true, false: false } },
  { sql: "text", type: "string", values: { "'é\"\\'": 'é"\\', "''": "" } },
  { sql: "varchar(3)", type: "string", values: { "'abc'": "abc" } },
  { sql: "char(4)", type: "string", values: { "'ab'": "ab  " } },
  { sql: '"char"', type: "string", values: { "'c'": "c" } },
  { sql: "name", type: "string", values: { "'c'": "c" } },
  { sql: "bytea", type: "string", values: { "'\\x00ff'": "\\x00ff" } },
  { sql: "date", type: "string", values: { "'infinity'": "infinity", "'0044-03-15 BC'": "0044-03-15 BC" } },
  {
    sql: "timestamp",
    type: "string",
    values: { "'-infinity'": "-infinity", "'2026-01-02 3:04'": "2026-01-02T03:04:00" },
  },
  { sql: "timestamptz", type: "string", values: { "'infinity'": "infinity" } },
  { sql: "time", type: "string", values: { "'24:00'": "24:00:00" } },
  { sql: "timetz", type: "string", values: { "'1:00+2'": "01:00:00+02" } },
  { sql: "interval", type: "string", values: { "'1 day'": "1 day" } },
  { sql: "json", type: "unknown", values: { "'[1, null]'": [1, null], "'null'": null } },
  { sql: "jsonb", type: "unknown", values: { "'{\"a\": 1}'": { a: 1 } } },
  {
    sql: "uuid",
    type: "string",
    values: { "'00000000-0000-0000-0000-00000000000A'": "00000000-0000-0000-0000-00000000000a" },
  },
  { sql: "inet", type: "string", values: { "'1.1.1.1'": "1.1.1.1" } },
  { sql: "cidr", type: "string", values: { "'10.0.0.0/8'": "10.0.0.0/8" } },
  { sql: "macaddr", type: "string", values: { "'08:00:2b:01:02:03'": "08:00:2b:01:02:03" } },
  { sql: "money", type: "string", values: { "'1.5'": "$1.50" } },
  { sql: "bit(3)", type: "string", values: { "'101'": "101" } },
  { sql: "varbit", type: "string", values: { "'1'": "1" } },
  { sql: "xml", type: "string", values: { "'<a/>'": "<a/>" } },
  { sql: "tsvector", type: "string", values: { "'b a'": "'a' 'b'" } },
  { sql: "tsquery", type: "string", values: { "'a & b'": "'a' & 'b'" } },
  { sql: "jsonpath", type: "string", values: { "'$.a'": '$."a"' } },
  { sql: "point", type: "string", values: { "'(1,2)'": "(1,2)" } },
  { sql: "polygon", type: "string", values: { "'((0,0),(1,1))'": "((0,0),(1,1))" } },
  { sql: "pg_lsn", type: "string", values: { "'0/1'": "0/1" } },
  { sql: "xid8", type: "string", values: { "'7'": "7" } },
  { sql: "oid", type: "string", values: { "5": "5" } },
  { sql: "regclass", type: "string", values: { "'pg_class'": "pg_class" } },
  { sql: "int2vector", type: "PgArray<number>", values: { "'1 2'": [1, 2] } },
  { sql: "oidvector", type: "PgArray<string>", values: { "'1 2'": ["1", "2"] } },
  { sql: "int4range", type: "string", values: { "'[1,2]'": "[1,3)" } },
  { sql: "int4multirange", type: "string", values: { "'{[1,2)}'": "{[1,2)}" } },
  { sql: "float_range[]", type: "PgArray<string>", values: { "'{\"[1,2]\"}'": ["[1,2]"] } },
  {
    sql: "integer[]",
    type: "PgArray<number>",
    values: {
      "'{}'": [],
      "'{{1,null},{2,3}}'": [
        [1, null],
        [2, 3],
      ],
      "'[0:1]={1,2}'": [1, 2],
    },
  },
  { sql: "text[][]", type: "PgArray<string>", values: { "'{a,NULL}'": ["a", null] } },
  { sql: "numeric(4,1)[]", type: 'PgArray<number | "NaN">', values: { "'{NaN,1.25}'": ["NaN", 1.3] } },
  { sql: "jsonb[]", type: "PgArray<unknown>", values: { "'{null,\"[1]\"}'": [null, [1]] } },
  { sql: "mood", type: "PublicMood", values: { "'glad'": "glad", "'it''s \"so\" */'": 'it\'s "so" */' } },
  { sql: "mood[]", type: "PgArray<PublicMood>", values: { "'{sad,NULL}'": ["sad", null] } },
  { sql: "nothing", type: "PublicNothing", values: {} },
  { sql: "nothing[]", type: "PgArray<PublicNothing>", values: { "'{NULL}'": [null] } },
  { sql: "positive", type: "number", values: { "1": 1 } },
  { sql: "positive[]", type: "PgArray<number>", values: { "'{1,NULL}'": [1, null] } },
  { sql: "nested_domain", type: 'number | "NaN"', values: { "'NaN'": "NaN", "1.505": 1.51 } },
  { sql: "moods", type: "PgArray<PublicMood>", values: { "'{glad}'": ["glad"] } },
  {
    sql: "grid[]",
    type: "PgArray<PgArray<number>>",
    values: { "array['{{1,2}}'::grid]::grid[]": [[[1, 2]]], "'{\"{1,2}\",null}'": [[1, 2], null] },
  },
  { sql: "document", type: "unknown", values: { "'[1]'": [1] } },
  {
    sql: "point3",
    type: "PublicPoint3",
    values: { "row(1,'NaN','sad',1)": { x: 1, y: "NaN", 'z "z': "sad", n: 1 } },
  },
  {
    sql: "line3",
    type: "PublicLine3",
    values: {
      "row(null, array[row(1,2,null,3)::point3, null], null)": {
        a: null,
        b: [{ x: 1, y: 2, 'z "z': null, n: 3 }, null],
        at: null,
      },
    },
  },
  {
    sql: "place",
    type: "PublicPoint3",
    values: { "row(1,1.5,null,2)": { x: 1, y: 1.5, 'z "z': null, n: 2 } },
  },
  { sql: "no_field", type: "PublicNoField", values: { "row()::no_field": {} } },
  { sql: "named", type: "PublicNamedValue", values: { "row(null, 'a')": { id: null, note: "a" } } },
  { sql: "told", type: "unknown", values: { "'a'": [17] } },
  { sql: "told_domain[]", type: "PgArray<unknown>", values: { "'{a,NULL}'": [[17], null] } },
  { sql: "holder", type: "PublicHolder", values: { "row('a', '{a}')": { told: [17], told_list: [[17]] } } },
  { sql: "untold", type: "PublicUntold", values: { "'a'": "a" } },
];

/** Types of extensions that come with PostgreSQL. */
export const EXTENSION_CASES: readonly TypeCase[] = [
  {
    sql: "hstore",
    type: "{ [key: string]: string | null }",
    values: { "'a=>1,b=>null'": { a: "1", b: null } },
  },
  {
    sql: "hstore[]",
    type: "PgArray<{ [key: string]: string | null }>",
    values: { "'{a=>1}'": [{ a: "1" }] },
  },
  { sql: "citext", type: "string", values: { "'A'": "A" } },
  { sql: "cube", type: "string", values: { "'(1,2)'": "(1, 2)" } },
  { sql: "ltree", type: "string", values: { "'a.b'": "a.b" } },
];

function words(quoted: readonly string[]): Record<string, string> {
  return Object.fromEntries(quoted.map((word) => [word, word.replaceAll("'", "")]));
}
