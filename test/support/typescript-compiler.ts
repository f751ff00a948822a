/** The TypeScript compiler over files that a test makes. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestEnd } from "./postgres.ts";

const TSC = join(import.meta.dirname, "../../node_modules/typescript/bin/tsc");

/** @returns what the compiler says of the files, by name and text; empty when all is well */
export function compile(t: TestEnd, files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-types-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const flags = [
    "--ignoreConfig",
    "--noEmit",
    "--strict",
    "--exactOptionalPropertyTypes",
    "--pretty",
    "false",
  ];
  const strict = ["--skipLibCheck", "false", "--target", "es2024", "--lib", "es2024", "--module", "nodenext"];
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [TSC, ...flags, ...strict, ...Object.keys(files)],
    { cwd: directory, encoding: "utf8" },
  );
  return status === 0 ? "" : `${stdout}${stderr}`;
}
