import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { prepareExpressions } from "../../src/core/api/expressions.ts";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { compileExpression, ExpressionError } from "../../src/core/delivery/expression-engine.ts";
import { eventFilter } from "../../src/core/delivery/filter.ts";
import type { ChangeEvent } from "../../src/core/event.ts";
import { changeEvent } from "../support/change-event.ts";
import { source } from "../support/crd-cases.ts";

const insert = changeEvent({
  key: "[42]",
  new: '{"id":42,"status":"paid","total":12.50,"count":12,"big":9007199254740993,"huge":123456789012345678901,"note":null,"active":true,"tags":["a","b"],"address":{"city":"Köln"},"we ird":1,"constructor":"x"}',
});
const update = changeEvent({
  operation: "Update",
  old: '{"id":1,"status":"new","total":1.0,"tags":[1],"at":null}',
  new: '{"id":1,"status":"paid","total":1.0,"tags":[1],"at":"2026-01-01T00:00:00Z"}',
});
const deletion = changeEvent({ operation: "Delete", old: '{"id":1,"status":"old"}', new: null });

describe("expressions see of an event", () => {
  const cases: [string, ChangeEvent, boolean][] = [
    ["operation == 'Insert' && schema == 'public' && table == 'orders'", insert, true],
    ["operation in ['Update', 'Delete']", insert, false],
    ["new.status == 'paid'", insert, true],
    ["row.status == 'old'", deletion, true],
    ["row == old && new == null", deletion, true],
    ["old == null", insert, true],
    ["key[0] == 42", insert, true],
    ["oldKey == null", insert, true],
    ["new.total > 12 && new.total < 13 && new.total == 12.5", insert, true],
    ["new.count == 12 && new.count > 11.5", insert, true],
    ["new.big == 9007199254740993 && new.big != 9007199254740992", insert, true],
    ["new.huge > 1e20", insert, true],
    ["new.note == null", insert, true],
    ["new.active", insert, true],
    ["!new.active", insert, false],
    ["'b' in new.tags && new.tags.exists(tag, tag.startsWith('a'))", insert, true],
    ["new.address.city == 'Köln'", insert, true],
    ["new['we ird'] == 1", insert, true],
    ["has(new.status) && !has(new.missing)", insert, true],
    ["'missing' in new", insert, false],
    ["new.constructor == 'x'", insert, true],
    ["has(old.constructor)", update, false],
    ["'status' in changed && !('total' in changed) && !('tags' in changed)", update, true],
    ["changed == ['status', 'at']", update, true],
    ["old.status == 'new' && new.status == 'paid'", update, true],
    ["size(changed) == size(new)", insert, true],
    ["size(changed) == 2", deletion, true],
    ["context.session_user == 'app'", insert, true],
    ["time > timestamp('2026-11-24T11:00:00Z')", insert, true],
    ["timestamp(new.at) < time", update, true],
    ["new.status.matches('^p.*d$')", insert, true],
    ["new.missing == 1 || operation == 'Insert'", insert, true],
    ["operation == 'Delete' && new.missing == 1", insert, false],
  ];
  for (const [expression, event, wanted] of cases) {
    test(`${expression}: ${wanted}`, () => assert.equal(compileExpression(expression)(event), wanted));
  }
});

describe("expressions are refused, with the place:", () => {
  const cases: [string, RegExp][] = [
    ["new.total >", /^column 12: Unexpected token: EOF$/],
    ["operation == \n  'Insert' &&", /^line 2, column 14: /],
    ["rows.total > 1", /^column 1: Unknown variable: rows$/],
    ["new.status.startWith('p')", /^column 1: .*startWith/],
    ["operation == 1", /^column 1: no such overload: string == int$/],
    ["operation", /^column 1: it gives a value of type string, not true or false$/],
    ["size(new)", /it gives a value of type int/],
    ["fetch('http://a')", /fetch/],
    ["new.status.matches('(')", /^column 20: the pattern is no regular expression of RE2$/],
    ["new.status.matches('(?=a)')", /no regular expression of RE2/],
    ["new.status.matches(old.status)", /^column 1: `matches` takes a pattern that is written out/],
    ["cel.bind(a, 'x', a == a)", /`cel\.bind` is not supported/],
    ["new.a.all(x, new.b.all(y, x == y))", /^column 14: `all` may not stand within another loop$/],
    ["new.a.map(x, [new.b.filter(y, true)]) == []", /`filter` may not stand within another loop/],
    [`${"(".repeat(60)}true${")".repeat(60)}`, /./],
    [Array.from({ length: 300 }, () => "true").join(" && "), /./],
  ];
  for (const [expression, message] of cases) {
    test(expression.slice(0, 60), () => {
      assert.throws(
        () => compileExpression(expression),
        (error) => error instanceof ExpressionError && message.test(error.message),
      );
    });
  }

  test("loops one after the other are fine", () => {
    const expression = "new.tags.filter(t, t != 'a').map(t, t + 'x') == ['bx'] && new.tags.all(t, t != 'z')";
    assert.equal(compileExpression(expression)(insert), true);
  });
});

test("a pattern that takes JavaScript's regular expressions forever takes no time", () => {
  const matches = compileExpression("new.text.matches('^(a+)+$')");
  assert.equal(matches(changeEvent({ new: JSON.stringify({ text: `${"a".repeat(5000)}!` }) })), false);
});

describe("an expression in a manifest", () => {
  const filter = async (expression: string, more: object = {}) => {
    const manifest = source({
      callbacks: [{ name: "a", http: { uri: "https://a/" }, filter: { expression, ...more } }],
    });
    const parsed = parsePgEventSource(manifest, "the case");
    await prepareExpressions(parsed, "the case");
    const [spec] = parsed.spec.callbacks;
    assert.ok(spec !== undefined);
    const problems: string[] = [];
    const { wants, wantsRow } = eventFilter(spec, (problem) => problems.push(problem));
    assert.ok(wantsRow !== null);
    return { wants, wantsRow, problems };
  };

  test("that cannot be compiled is a finding with its path and place", async () => {
    await assert.rejects(filter("new.total >"), {
      code: "PGE_MANIFEST_INVALID",
      message: /spec\.callbacks\[0\]\.filter\.expression: column 12: Unexpected token: EOF/,
    });
  });

  test("decides about rows", async () => {
    const { wantsRow, problems } = await filter("row.status == 'paid'");
    assert.deepEqual([insert, update, deletion].map(wantsRow), [true, true, false]);
    assert.deepEqual(problems, []);
  });

  test("is not asked about what concerns all rows", async () => {
    const { wantsRow, problems } = await filter("row.status == 'paid'", { schemaChanges: "Include" });
    const truncate = changeEvent({ operation: "Truncate", key: null, new: null });
    const change = changeEvent({ operation: "SchemaChange", key: null, new: '{"ddl":1}' });
    assert.deepEqual([truncate, change].map(wantsRow), [true, true]);
    assert.deepEqual(problems, []);
  });

  test("that cannot say delivers, and tells why without anything of the row", async () => {
    const secret = changeEvent({ new: '{"id":1,"text":"hunter2"}' });
    const cases: [string, string][] = [
      ["row.missing == 1", "column 5: no such key"],
      ["row.id > 'a'", "column 1: no such overload"],
      ["bool(row.text)", "column 1: bool conversion error"],
      ["row.text", "column 1: no truth value"],
      ["int(row.text) > 1", "column 1: int conversion error"],
      ["old.id == 1", "column 5: no such key"],
    ];
    for (const [expression, problem] of cases) {
      const { wantsRow, problems } = await filter(expression);
      assert.equal(wantsRow(secret), true);
      assert.deepEqual(problems, [problem]);
    }
  });
});
