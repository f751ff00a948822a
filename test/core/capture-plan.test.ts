import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CaptureSpec, TableSpec } from "../../src/core/api/capture.ts";
import type { ObservedRelation, ObservedTrigger } from "../../src/core/capture/model.ts";
import { captureNames } from "../../src/core/capture/names.ts";
import { captureEntries, planCapture } from "../../src/core/capture/plan.ts";
import { aboutTable, rowRule } from "../../src/core/capture/row-rule.ts";
import { createTrigger, isCurrent, type TriggeredTable } from "../../src/core/capture/triggers.ts";
import { captureSpec, tableSpec } from "../support/capture-spec.ts";
import { observedRelation } from "../support/relation.ts";

const NAMES = captureNames("pgevents");

const relation = (name: string, changes: Partial<ObservedRelation> = {}) =>
  observedRelation(name, { columns: ["id", "n", "mail"], columnsDigest: "digest", ...changes });

const plan = (
  fields: Partial<TableSpec>,
  spec: Partial<CaptureSpec> = {},
  changes: Partial<ObservedRelation> = {},
) =>
  planCapture(captureSpec({ ...spec, tables: [tableSpec({ name: "o", ...fields })] }), [
    relation("o", changes),
  ]);

describe("the rule of a table", () => {
  test("is empty for whole rows, and holds what is asked for, so that a build sees each difference", () => {
    const rules = [
      {},
      { payload: "Row" as const },
      { columns: { mask: ["mail"] } },
      { payload: "Changes" as const },
      { payload: "Key" as const, updateColumns: ["n"] },
    ].map((fields) => rowRule(tableSpec({ name: "o", ...fields })));
    assert.deepEqual(rules, [
      "",
      "",
      '{"mask":["mail"],"strict":["mail"]}',
      '{"payload":"Changes"}',
      '{"payload":"Key","updateColumns":["n"]}',
    ]);
    assert.equal(rowRule(tableSpec({ name: "*", columns: { mask: ["mail"] } })), '{"mask":["mail"]}');
  });

  test("what goes with each event: the key, and a version of columns, rule and key", () => {
    const versions = [
      aboutTable(["id"], "a", ""),
      aboutTable(["id"], "b", ""),
      aboutTable(["id"], "a", "{}"),
      aboutTable(["n"], "a", ""),
    ].map((about) => (JSON.parse(about) as { version: string }).version);
    assert.equal(new Set(versions).size, 4);
    for (const version of versions) assert.match(version, /^[0-9a-f]{12}$/);
    assert.match(aboutTable(['a"b', "c\\d"], "", ""), /^\{"key":\["a\\"b","c\\\\d"\],"version":"/);
    assert.equal(aboutTable(["id"], "a", ""), aboutTable(["id"], "a", ""));
  });
});

describe("the level of a table", () => {
  const cases: [what: string, fields: Partial<TableSpec>, spec: Partial<CaptureSpec>, level: string][] = [
    ["whole rows", {}, {}, "Statement"],
    ["another key", { key: ["n"] }, {}, "Statement"],
    ["columns", { columns: { mask: ["mail"] } }, {}, "EachRow"],
    ["a condition", { when: { delete: "old.n = 1" } }, {}, "EachRow"],
    ["updateColumns", { updateColumns: ["n"] }, {}, "EachRow"],
    ["payload Changes", { payload: "Changes" }, {}, "EachRow"],
    ["payload Key", { payload: "Key" }, {}, "EachRow"],
    ["replicated", {}, { replicated: true }, "EachRow"],
  ];
  for (const [what, fields, spec, level] of cases)
    test(`${what}: ${level}, as the functions in the database are told as well`, () => {
      assert.equal(plan(fields, spec).tables[0]?.level, level);
      const [entry] = captureEntries(captureSpec({ ...spec, tables: [tableSpec({ name: "o", ...fields })] }));
      assert.equal(entry?.byRow, level === "EachRow");
      for (const fixed of ["Row", "Partition"] as const)
        assert.equal(plan(fields, spec, { level: fixed }).tables[0]?.level, fixed);
    });
});

describe("findings", () => {
  const codes = (fields: Partial<TableSpec>) =>
    plan(fields).findings.map(({ code, message }) => `${code}: ${message}`);

  test("of columns that are named and not there: what that means until it is corrected", () => {
    assert.deepEqual(codes({ columns: { include: ["id", "gone"] } }), [
      "ColumnNotFound: public.o has no column gone; until spec.capture.tables is corrected its events carry no columns at all.",
    ]);
    const until = "until spec.capture.tables is corrected";
    assert.deepEqual(codes({ key: ["id", "gone"], updateColumns: ["gone"] }), [
      `ColumnNotFound: public.o has no column gone; ${until} its events carry no key, and every update is captured.`,
    ]);
    assert.deepEqual(codes({ updateColumns: ["gone"] }), [
      `ColumnNotFound: public.o has no column gone; ${until} every update is captured.`,
    ]);
    assert.deepEqual(codes({ key: ["n"], updateColumns: ["mail"], columns: { include: ["id", "n"] } }), []);
  });

  test("of a key that does not get out", () => {
    assert.match(codes({ columns: { mask: ["id"] } })[0] ?? "", /^KeyHidden: public\.o: of the key id is/);
    assert.match(
      codes({ key: ["mail"], columns: { exclude: ["mail"] } })[0] ?? "",
      /^KeyHidden: .* key mail /,
    );
    assert.deepEqual(codes({ key: ["mail"], columns: { mask: ["id"], hash: ["mail"] } }), []);
  });
});

describe("whether a trigger is as it should be", () => {
  const table: TriggeredTable = {
    table: { schema: "public", name: "o" },
    root: { schema: "public", name: "o" },
    level: "EachRow",
    writtenAgain: false,
    about: '{"key":["it\'s"]}',
    rule: "",
    when: { Insert: "new.n > 1" },
    settingsMatter: false,
    replicated: false,
  };
  /** As the server prints what `createTrigger` makes. */
  function observed(changes: Partial<TriggeredTable> = {}): ObservedTrigger {
    const { name, statements } = createTrigger("Insert", { ...table, ...changes }, NAMES);
    const made = statements.find((one) => one.startsWith("create or replace trigger")) ?? "";
    const [, tail = ""] = made.split(/for each (?:row|statement) /);
    return {
      name,
      kind: "Insert",
      tail: tail
        .replace(/when \((.*)\n\) execute function/, "WHEN (($1)) EXECUTE FUNCTION")
        .replace("execute function", "EXECUTE FUNCTION")
        .replace(NAMES.schema, "pgevents"),
      callSchema: "pgevents",
      enabled: (changes.replicated ?? table.replicated) ? "A" : "O",
      clonesAlike: true,
    };
  }

  test("as it was made; every difference of the spec is seen, also of a condition's text", () => {
    assert.equal(isCurrent(observed(), table, NAMES), true);
    const others: Partial<TriggeredTable>[] = [
      { when: { Insert: "new.n > 2" } },
      { when: {} },
      { when: { Insert: "(new.n > 1)" } },
      { rule: '{"payload":"Key"}' },
      { about: "{}" },
      { replicated: true },
      { level: "Row" },
      { writtenAgain: true },
      { level: "Statement", when: {} },
      { root: { schema: "public", name: "p" } },
    ];
    for (const other of others) {
      assert.equal(isCurrent(observed(other), table, NAMES), false, JSON.stringify(other));
      assert.equal(isCurrent(observed(), { ...table, ...other }, NAMES), false, JSON.stringify(other));
      assert.equal(isCurrent(observed(other), { ...table, ...other }, NAMES), true, JSON.stringify(other));
    }
  });

  test("a condition that is printed differently than it was written is still the same", () => {
    const trigger = observed();
    const tail = trigger.tail?.replace("new.n > 1", "new.amount > 1::numeric") ?? null;
    assert.equal(isCurrent({ ...trigger, tail }, table, NAMES), true);
  });
});
