/** Databases whose encoding holds what UTF-8 has no form for. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { captured } from "../support/capture-scene.ts";

const CASES = { WIN1252: "chr(129)", SQL_ASCII: "chr(233) || chr(255)" };

for (const [encoding, text] of Object.entries(CASES))
  describe(`a text that has no form in UTF-8, ${encoding}`, () => {
    test("hides nothing that comes after it; its event is told to be unreadable, with a stand-in", async (t) => {
      const { query, told } = await captured(t, "create table o (id integer primary key, v text)", {
        encoding,
      });
      await query(`insert into o values (1, 'a' || ${text}), (2, 'b')`);
      const events = await told();
      assert.deepEqual(
        events.map(({ key, unreadable = false }) => [key, unreadable]),
        [
          ["[1]", true],
          ["[2]", false],
        ],
      );
      assert.match(JSON.parse(events[0]?.new ?? "").v, /^a\?+$/);
      await query("update o set v = 'c'; delete from o where id = 1");
      assert.deepEqual(
        (await told()).map(({ operation, old, new: now, key, unreadable }) => [
          ...[
            operation,
            key,
            JSON.parse(old ?? "").v.replace(/\?+/, "?"),
            JSON.parse(now ?? "null")?.v,
            unreadable,
          ],
        ]),
        [
          ["Update", "[1]", "a?", "c", undefined],
          ["Update", "[2]", "b", "c", undefined],
          ["Delete", "[1]", "c", undefined, undefined],
        ],
        "a row that is put right is told of",
      );
    });

    test("in a large row, in a key, in the statement, in a window that is read in slices, in a parked event", async (t) => {
      const scene = await captured(t, "create table o (id text primary key, v text)", {
        encoding,
        context: { query: true },
      });
      const { query, told } = scene;
      await query(
        `insert into o values ('large', repeat('x', 20000) || ${text}), (${text}, 'key'), ('plain', 'b')`,
      );
      const marked = async () => (await told()).map(({ unreadable = false }) => unreadable);
      assert.deepEqual(await marked(), [true, true, false]);
      await query("delete from o where v = 'key'");
      assert.deepEqual(await marked(), [true]);
      await query(
        `insert into o select 'many ' || i, case i when 500 then ${text} end from generate_series(1, 2500) as i`,
      );
      const many = await marked();
      assert.deepEqual([many.length, many.filter(Boolean).length], [2500, 1]);
      await query(`
        insert into pgevents.parked (callback, id, xid, at, operation, schema_name, table_name, key, new, context, attempts)
        values ('a', 1, '7', now(), 'I', 'public', 'o', '["x"]', json_build_object('v', ${text})::text, '{}', 1)`);
      const pool = createPool(scene.settings, "worker", 1);
      t.after(() => pool.end());
      const parked = await new OutboxReader(pool, captureNames("pgevents")).readParked("a", "1");
      assert.equal(parked?.unreadable, true);
    });
  });

describe("the encoding of the database", () => {
  test("is found where it has such characters, and only there", async (t) => {
    for (const [encoding, expected] of [
      ["WIN1252", true],
      ["SQL_ASCII", true],
      ["EUC_JP", true],
      ["LATIN1", false],
      ["UTF8", false],
    ] as const) {
      const { build } = await captured(t, "", { encoding });
      const codes = (await build()).findings.map(({ code }) => code);
      assert.equal(codes.includes("EncodingWithGaps"), expected, encoding);
    }
  });
});
