/** `updateColumns`, `key` and `payload`: which updates are captured, by what rows are known, and what of them is told. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import type { TableSpec } from "../../src/core/api/capture.ts";
import { structuredBody } from "../../src/core/delivery/cloudevents.ts";
import { captured, images } from "../support/capture-scene.ts";
import { tableSpec } from "../support/capture-spec.ts";
import { ORIGIN } from "../support/change-event.ts";

const of = (fields: Partial<TableSpec>) => ({ tables: [tableSpec({ name: "o", ...fields })] });

describe("updateColumns", () => {
  test("G7 an update counts when it changes a value of one of them, also one that has no equality", async (t) => {
    const { query, lines, build } = await captured(
      t,
      `create table o (id integer primary key, n integer, at timestamptz, doc json, place point, big text, "a\\b""c" integer);
      insert into o select 1, 1, '2026-01-01Z', '{"a": 1}', '(1,2)', string_agg(md5(i::text), ''), 1 from generate_series(1, 1000) as i`,
      of({ updateColumns: ["at", "doc", "place", "big", 'a\\b"c'] }),
    );
    const same = [
      "n = n + 1",
      "n = 7, at = at",
      `doc = '{"a": 1}'`,
      "place = '(1,2)'",
      "big = big || ''",
      "at = '2026-01-01 02:00+02'",
      `"a\\b""c" = 1`,
    ];
    for (const change of same) await query(`update o set ${change}`);
    assert.deepEqual(await lines(), []);
    const others = [
      "at = now()",
      `doc = '{"a":1}'`,
      "place = '(1,3)'",
      "big = big || 'x'",
      `"a\\b""c" = null`,
    ];
    for (const change of others) {
      await query(`update o set ${change}`);
      assert.deepEqual(await lines(), ["Update o [1]"], change);
    }
    await query(
      "set timezone = 'Asia/Tokyo'; update o set n = 8; insert into o (id) values (2); delete from o where id = 2",
    );
    assert.deepEqual(await lines(), ["Insert o [2]", "Delete o [2]"]);
    assert.equal((await build()).changed, false);
  });

  test("what counts is what is stored: a BEFORE trigger may change it, or change it back", async (t) => {
    const { query, lines } = await captured(
      t,
      `create table o (id integer primary key, n integer, touched integer default 0);
      create function correct() returns trigger language plpgsql as $$ begin
        if new.n < 0 then new.n := old.n; end if; new.touched := new.touched / 2; return new;
      end $$;
      create trigger correct before update on o for each row execute function correct();
      insert into o values (1, 1)`,
      of({ updateColumns: ["n"] }),
    );
    await query("update o set n = -1; update o set touched = 9");
    assert.deepEqual(await lines(), []);
    await query("update o set n = 2");
    assert.deepEqual(await lines(), ["Update o [1]"]);
  });

  test("one that is renamed, or not there: every update counts until the spec is right, and the build says so", async (t) => {
    const { query, lines, build } = await captured(
      t,
      "create table o (id integer primary key, n integer, m integer); insert into o values (1, 1, 1)",
      of({ updateColumns: ["n"] }),
    );
    await query("alter table o rename column n to k; update o set m = 2");
    assert.deepEqual(await lines(), ["Update o [1]"]);
    const { failures } = await build();
    assert.deepEqual(
      failures.map(({ code, message }) => [code, message.slice(0, 36)]),
      [["ColumnNotFound", "public.o has no column n; until spec"]],
    );
    await build(of({ updateColumns: ["k"] }));
    await query("update o set m = 3; update o set k = 3");
    assert.deepEqual(await lines(), ["Update o [1]"]);
  });
});

describe("key", () => {
  test("G2 any columns, unique or not, null or not; order, subject and partition key follow it", async (t) => {
    const { query, told, build } = await captured(
      t,
      "create table o (id integer primary key, tenant text, code text, n integer)",
      of({ key: ["tenant", "code"] }),
    );
    await query(`insert into o values (1, 'a', 'x', 1), (2, 'a', 'x', 1), (3, null, null, 1);
      update o set n = 2 where id = 2; update o set code = 'y' where id = 1; delete from o where id = 3`);
    const events = await told();
    assert.deepEqual(
      events.map(({ key, oldKey }) => [oldKey, key]),
      [
        [null, '["a","x"]'],
        [null, '["a","x"]'],
        [null, "[null,null]"],
        [null, '["a","x"]'],
        ['["a","x"]', '["a","y"]'],
        [null, "[null,null]"],
      ],
    );
    const { subject, partitionkey } = JSON.parse(structuredBody(ORIGIN, events[4] as (typeof events)[0]));
    assert.deepEqual([subject, partitionkey], ['public.o/["a","y"]', 'public.o/["a","y"]']);
    assert.equal((await build()).changed, false);
  });

  test("G7 hashed, masked, excluded, missing", async (t) => {
    const { query, told, build } = await captured(
      t,
      "create table o (id integer primary key, mail text)",
      of({ key: ["mail"], columns: { hash: ["mail"] } }),
    );
    const { rows } = await query<{ hash_salt: string }>("select hash_salt from pgevents.installation");
    const hash = createHash("sha256").update(`${rows[0]?.hash_salt}a@b.c`).digest("hex");
    const keyOf = async () => {
      await query("insert into o values (1, 'a@b.c'); delete from o");
      return (await told()).map(({ key }) => key);
    };
    assert.deepEqual(await keyOf(), [`["${hash}"]`, `["${hash}"]`]);
    const codes = async (fields: Partial<TableSpec>) =>
      (await build(of(fields))).findings.map(({ code }) => code);
    assert.ok((await codes({ key: ["mail"], columns: { mask: ["mail"] } })).includes("KeyHidden"));
    assert.deepEqual(await keyOf(), ['["***"]', '["***"]']);
    assert.ok((await codes({ key: ["mail"], columns: { exclude: ["mail"] } })).includes("KeyHidden"));
    assert.deepEqual(await keyOf(), [null, null]);
    assert.ok((await codes({ key: ["mail", "none"] })).includes("ColumnNotFound"));
    assert.deepEqual(await keyOf(), [null, null]);
    assert.ok(!(await codes({ key: ["mail"] })).includes("KeyHidden"));
    assert.deepEqual(await keyOf(), ['["a@b.c"]', '["a@b.c"]']);
  });

  test("of a table without a primary key, of partitions, and of one that comes by event trigger", async (t) => {
    const spec = {
      tables: [tableSpec({ name: "o", key: ["code"] }), tableSpec({ name: "later", key: ['a"b', "c\\d"] })],
    };
    const { query, told, build } = await captured(
      t,
      "create table o (code text, n integer) partition by list (n); create table o_1 partition of o for values in (1); create table o_2 partition of o default",
      { owner: false, ...spec },
    );
    await query(`insert into o values ('x', 1); update o set n = 2; delete from o_2;
      create table later ("a""b" integer, "c\\d" integer); insert into later values (1, 2)`);
    assert.deepEqual(
      (await told()).map(({ operation, key }) => `${operation} ${key}`),
      ['Insert ["x"]', 'Delete ["x"]', 'Insert ["x"]', 'Delete ["x"]', "Insert [1,2]"],
    );
    const { actions, findings } = await build();
    assert.deepEqual(actions, []);
    assert.ok(!findings.some(({ code }) => code === "NoKey"));
  });
});

describe("payload", () => {
  test("Changes: of an update what it changed, and the key; rows that come and go are whole", async (t) => {
    const { query, told } = await captured(
      t,
      `create table o (id integer primary key, n integer, doc json, note text, secret text)`,
      of({ payload: "Changes", columns: { exclude: ["secret"], mask: ["note"] } }),
    );
    await query(`insert into o values (1, 1, '{"a": 1}', 'x', 's'); update o set n = 2, secret = 't'; update o set secret = 'u';
      update o set doc = '{"a":1}', note = 'y'; update o set id = 2, note = null; delete from o`);
    assert.deepEqual(images(await told()), [
      'I {"id":1,"n":1,"doc":{"a":1},"note":"***"}',
      'U {"id":1,"n":1} {"id":1,"n":2}',
      'U {"id":1} {"id":1}',
      'U {"id":1,"doc":{"a":1}} {"id":1,"doc":{"a":1}}',
      'U {"id":1,"note":"***"} {"id":2,"note":null}',
      'D {"id":2,"n":2,"doc":{"a":1},"note":null}',
    ]);
  });

  test("Key: nothing but the key, in rows before and after; nothing at all without one", async (t) => {
    const { query, told, build } = await captured(
      t,
      "create table o (a integer, n integer, b integer, primary key (b, a))",
      of({ payload: "Key" }),
    );
    await query("insert into o values (1, 7, 2); update o set n = 8; update o set a = 3; delete from o");
    const events = await told();
    assert.deepEqual(images(events), [
      'I {"a":1,"b":2}',
      'U {"a":1,"b":2} {"a":1,"b":2}',
      'U {"a":1,"b":2} {"a":3,"b":2}',
      'D {"a":3,"b":2}',
    ]);
    assert.equal(events[0]?.key, "[2,1]");
    await query("alter table o drop constraint o_pkey");
    await build();
    await query("insert into o values (1, 7, 2)");
    assert.deepEqual(images(await told()), ["I {}"]);
  });

  for (const payload of ["Row", "Changes", "Key"] as const)
    test(`${payload}: of partitions, and again after it is taken back`, async (t) => {
      const { query, told, build } = await captured(
        t,
        "create table o (id integer primary key, n integer) partition by range (id); create table o_1 partition of o default",
        of({ payload }),
      );
      assert.equal((await build()).changed, false);
      await query("insert into o_1 values (1, 1); update o set n = 2");
      const expected = {
        Row: ['I {"id":1,"n":1}', 'U {"id":1,"n":1} {"id":1,"n":2}'],
        Changes: ['I {"id":1,"n":1}', 'U {"id":1,"n":1} {"id":1,"n":2}'],
        Key: ['I {"id":1}', 'U {"id":1} {"id":1}'],
      };
      assert.deepEqual(images(await told()), expected[payload]);
      await build(of({}));
      await query("delete from o");
      assert.deepEqual(images(await told()), ['D {"id":1,"n":2}']);
    });
});

/** What a column of type json takes and no function on json reads; the last ones only where the encoding lacks €. */
const UNREADABLE = ['{"a": "\\u0000"}', '"\\ud800"', '["\\\\u0000\\\\", "\\u20ac\\n"]', '{"\\u0000": 1e400}'];

describe("json that PostgreSQL stores and its functions do not read fails no write, and arrives as it is", () => {
  const fields: Record<string, Partial<TableSpec>> = {
    "columns are left out": { columns: { exclude: ["secret"] } },
    "updateColumns and Changes": { payload: "Changes", updateColumns: ["doc", "\u007f0\\u"] },
    "the key, hashed": { key: ["\u007f0\\u"], columns: { hash: ["\u007f0\\u"], exclude: ["secret"] } },
    "only masked": { columns: { mask: ["secret"] } },
    whole: {},
  };
  for (const [what, spec] of Object.entries(fields))
    for (const encoding of ["UTF8", "LATIN1"])
      test(`${what}, ${encoding}`, async (t) => {
        const { query, told } = await captured(
          t,
          'create table o (id integer primary key, doc json, "\u007f0\\u" text, secret text)',
          { encoding, ...of(spec) },
        );
        const name = "\u007f0\\u and \\\\u, \u0001";
        for (const [index, doc] of UNREADABLE.entries()) {
          await query("insert into o values ($1, $2, $3, 's')", [index, doc, name]);
          await query(`update o set doc = json_build_array(doc) where id = $1`, [index]);
          const [insert, update] = await told();
          assert.ok(insert?.new?.includes(doc), insert?.new ?? "");
          assert.ok(update?.new?.includes(`[${doc}]`), update?.new ?? "");
          const row = JSON.parse(insert?.new ?? "null") as Record<string, unknown>;
          const hashed = spec.columns?.hash !== undefined;
          if (hashed) {
            const { rows } = await query<{ hash_salt: string }>(
              "select hash_salt from pgevents.installation",
            );
            const hash = createHash("sha256").update(`${rows[0]?.hash_salt}${name}`).digest("hex");
            assert.deepEqual([row["\u007f0\\u"], insert?.key], [hash, `["${hash}"]`]);
          } else assert.equal(row["\u007f0\\u"], name);
          const secret = spec.columns?.exclude ? undefined : spec.columns?.mask ? "***" : "s";
          assert.equal(row.secret, secret);
        }
      });

  test("a hash of such a value is that of its text", async (t) => {
    const { query, told } = await captured(
      t,
      "create table o (id integer primary key, doc json)",
      of({ columns: { hash: ["doc"] } }),
    );
    const doc = '{"a": "\\u0000"}';
    await query("insert into o values (1, $1), (2, $1)", [doc]);
    const { rows } = await query<{ hash_salt: string }>("select hash_salt from pgevents.installation");
    const hash = createHash("sha256").update(`${rows[0]?.hash_salt}${doc}`).digest("hex");
    assert.deepEqual(
      (await told()).map(({ new: row }) => JSON.parse(row ?? "").doc),
      [hash, hash],
    );
  });
});
