import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captureSchema } from "../../src/core/api/capture.ts";
import { conditionProblem } from "../../src/core/capture/condition.ts";

const TAKEN = [
  "new.total > 100",
  "old.status is distinct from new.status and (new.total > 1.5 or new.total < 1e-3)",
  "new.* is distinct from old.*",
  'new."a.b;--" = 1 and "new"."c" = 2 and NEW . d = 3',
  "(new.address).street.name = 'x'",
  "new.tags[1:2] = '{a}' and new.n::bigint = 1 and new.c::\"char\" = 'a'",
  "new.name in ('it''s', '--', '/*', ';', ')', '(', '\"')",
  "pg_catalog.lower(new.a) collate pg_catalog.\"C\" operator(pg_catalog.=) 'b'",
  "new.document -> 'a' ->> 'b' = 'c'\n  and\ttrue",
  "new.é = 'ü 🦉' and new.a = date '2026-01-01'",
  "case when new.a then true else false end",
  "new.a - -1 = 0",
  `new.a = '${"x".repeat(1000)}'`,
];

const REFUSED: readonly (readonly [text: string, problem: RegExp])[] = [
  ["", /empty/],
  [" \n", /empty/],
  ["true) execute function x() --", /comment/],
  ["true) execute function x(", /closes a bracket/],
  ["true) or (true", /closes a bracket/],
  ["(true", /opens a bracket/],
  ["new.a = ')", /quote that does not end/],
  ["new.a = 'x' and new.\"b", /quote that does not end/],
  ["true; drop table x", /must not hold ;/],
  ["true /* x */", /comment/],
  ["true -- x", /comment/],
  ["new.a = E'\\''", /backslash/],
  ["new.a = '\\'", /backslash/],
  ["new.a = $$x$$", /\$/],
  ["new.a = $1", /\$/],
  ["new.a = '\0'", /NUL/],
  ["new.a = E'x'", /before a quote/],
  ["new.a = U&'x'", /before a quote/],
  ['U&"x" = 1', /before a quote/],
  ["new.a = B'1'", /before a quote/],
  ["new.a =\u00a0'x'", /before a quote/],
  ["new.a = ’x'", /before a quote|does not end/],
  ["new.a = :'x'", /between : and a name/],
  ["new.a[1:USER] = 1", /between : and a name/],
  ["public.evil(new.a)", /must not name public\.evil/],
  ['"Public" . evil(new.a)', /must not name Public\.evil/],
  ["'x'::public.kind is null", /must not name public\.kind/],
  ["new.a operator(public.@@) 1", /must not name public:/],
  ["new.a = 'x' collate public.mine", /must not name public\.mine/],
  ["new.public.evil(1)", /must not name new\.public\.evil/],
  ["'x'::pg_catalog.public.kind is null", /must not name pg_catalog\.public\.kind/],
  ["1.public.evil()", /must not name public\.evil/],
  ['"NEW".a = 1', /must not name NEW\.a/],
  ['new."" = 1', /quote that does not end/],
];

describe("the text of a condition", () => {
  for (const text of TAKEN)
    test(`takes ${text.slice(0, 60)}`, () => assert.equal(conditionProblem(text), null));
  for (const [text, problem] of REFUSED)
    test(`refuses ${JSON.stringify(text)}`, () => assert.match(conditionProblem(text) ?? "taken", problem));

  test("is looked at with the manifest, which says where it stands, and has at most 1,024 characters", () => {
    const parse = (insert: string) =>
      captureSchema.safeParse({ tables: [{ schema: "public", name: "orders", when: { insert } }] });
    const [issue] = parse("true; true").error?.issues ?? [];
    assert.deepEqual([issue?.path, issue?.message], [["tables", 0, "when", "insert"], "must not hold ;"]);
    assert.equal(parse(`true${" ".repeat(1020)}`).success, true);
    assert.equal(parse(`true${" ".repeat(1021)}`).success, false);
  });
});
