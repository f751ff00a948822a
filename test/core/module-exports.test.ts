import assert from "node:assert/strict";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { moduleExports } from "../../src/runtime/module-exports.ts";
import { startProcess } from "../support/processes.ts";

const MODULE_EXPORTS = join(import.meta.dirname, "../../src/runtime/module-exports.ts");

function fileWith(t: TestContext, name: string, text: string): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "pg-events-module-")));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, name), text);
  return join(directory, name);
}

describe("the exports of a module", () => {
  const HOLDS: [name: string, text: string][] = [
    ["named.mjs", `export const a = "x"; export function f() {} export const n = 1;`],
    ["default.mjs", `export default { a: "x", f: () => 0, n: 1 };`],
    ["both.mjs", `export const a = "x"; export default { a: "hidden by the name", f() {}, n: 1 };`],
    ["common.cjs", `module.exports = { a: "x", f: class {}, n: 1 };`],
    ["no-package.js", `export const a = "x"; export const f = async () => 0; export const n = 1;`],
    [
      "types.mts",
      `export const a: string = "x"; export const f = (): void => {}; export const n = 1 as number;`,
    ],
    [
      "waits.mjs",
      `export const a = await Promise.resolve("x"); export const f = () => 0; export const n = 1;`,
    ],
  ];
  for (const [name, text] of HOLDS) {
    test(`${name}: told by kind`, async (t) => {
      const exports = await moduleExports(fileWith(t, name, text));
      assert.ok(exports.kind === "exports", JSON.stringify(exports));
      assert.deepEqual(exports.values.a, { kind: "text", text: "x" });
      assert.deepEqual(exports.values.f, { kind: "function" });
      assert.deepEqual(exports.values.n, { kind: "other", type: "number" });
    });
  }

  const FAILS: [name: string, text: string, problem: RegExp][] = [
    ["syntax.mjs", "export const = 1;", /^cannot be loaded: SyntaxError: Unexpected token '='$/],
    ["syntax.mts", "\nexport const a: = 1;", /^cannot be loaded: SyntaxError: .+ in line 2$/],
    ["syntax.cjs", "\n\nmodule.exports = {,};", /^cannot be loaded: SyntaxError: .+ in line 3$/],
    [
      "throws.mjs",
      `throw new TypeError("no postgres://me:secret@host/db\\nsecond line");`,
      /^cannot be loaded: TypeError: no postgres:\/\/\[hidden\]@host\/db$/,
    ],
    ["throws-text.mjs", `throw "no";`, /^cannot be loaded: Error: no$/],
    [
      "imports.mjs",
      `import "no-such-package";`,
      /^cannot be loaded: Error: Cannot find package 'no-such-package'/,
    ],
    ["exits.mjs", "process.exit(0);", /^ended before it was loaded/],
    ["never.mjs", "await new Promise(() => {});", /^ended before it was loaded/],
    [
      "later.mjs",
      `setImmediate(() => { throw new Error("late"); }); await new Promise(() => setTimeout(() => {}, 60000));`,
      /^cannot be loaded: Error: late$/,
    ],
    ["hangs.mjs", "for (;;);", /^was not loaded within 0.5 seconds$/],
  ];
  for (const [name, text, problem] of FAILS) {
    test(`${name}: one line says what is wrong`, async (t) => {
      const timeoutMs = name === "hangs.mjs" ? 500 : undefined;
      const exports = await moduleExports(fileWith(t, name, text), timeoutMs);
      assert.ok(exports.kind === "failed");
      assert.match(exports.problem, problem);
    });
  }

  test("what a module leaves running does not keep the program, and what it prints is not its output", async (t) => {
    const file = fileWith(
      t,
      "leaves.js",
      `console.log("mine"); setInterval(() => {}, 1000); export const a = "x";`,
    );
    const program = `import { moduleExports } from ${JSON.stringify(MODULE_EXPORTS)};
      console.log(JSON.stringify(await moduleExports(${JSON.stringify(file)})));`;
    const run = startProcess(t, process.execPath, ["--input-type=module-typescript", "-e", program]);
    assert.equal((await run.exited).code, 0);
    assert.deepEqual(JSON.parse(run.stdout).values.a, { kind: "text", text: "x" });
    assert.match(run.stderr, /^(mine\n)?$/, "Node's warning of a missing package.json is not there either");
  });
});
