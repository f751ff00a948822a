import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../..");
const SCENARIOS = 58;

/** The scenarios in the titles of a test file. */
function scenariosIn(path: string): Set<string> {
  const titles =
    readFileSync(join(ROOT, path), "utf8").match(/\b(test|t\.test|describe)\(\s*["'`][^\n]*/g) ?? [];
  return new Set(titles.flatMap((title) => title.match(/\bF\d+(?= )/g) ?? []));
}

test("docs/failures.md has each scenario once, with a test of its number in each file it names", () => {
  const text = readFileSync(join(ROOT, "docs/failures.md"), "utf8");
  const rows = [...text.matchAll(/^\| (F\d+) \|.*\| ([^|]+) \|$/gm)].map(([, number = "", files = ""]) => ({
    number,
    files: files.split(", "),
  }));
  assert.deepEqual(
    rows.map(({ number }) => number),
    Array.from({ length: SCENARIOS }, (_, index) => `F${index + 1}`),
  );
  for (const { number, files } of rows)
    for (const file of files)
      assert.ok(scenariosIn(`test/${file}.test.ts`).has(number), `${number} in test/${file}.test.ts`);
});

test("no test carries a number that is no scenario", () => {
  for (const path of globSync("test/**/*.test.ts", { cwd: ROOT })) {
    for (const number of scenariosIn(path))
      assert.ok(Number(number.slice(1)) <= SCENARIOS, `${number} in ${path}`);
  }
});
