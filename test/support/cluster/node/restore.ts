/**
 * A process that waits for the end of the one that started it, however that ends (its standard input is a pipe
 * from there), and then puts the machine back as it was: enter.ts.
 *
 *   restore.ts '{"directory": …, "groups": […], "settings": [[path, value], …]}'
 */
import { existsSync, globSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { eventually } from "../../processes.ts";

export interface Restored {
  /** Removed, with all that is in it. */
  readonly directory: string;
  /** Control groups that are removed, with those below them. */
  readonly groups: readonly string[];
  /** Files of the kernel, and what was in them. */
  readonly settings: readonly (readonly [path: string, value: string])[];
}

const { directory, groups, settings } = JSON.parse(process.argv[2] ?? "") as Restored;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
for await (const _ of process.stdin);
for (const [path, value] of settings) if (readFileSync(path, "utf8") !== value) writeFileSync(path, value);
// What was killed takes a moment to be gone.
await eventually(() => groups.every(removeGroup), { what: "the end of the node's control groups" });
rmSync(directory, { recursive: true, force: true, maxRetries: 20 });

function removeGroup(path: string): true {
  if (!existsSync(path)) return true;
  for (const child of globSync(`${path}/*/`)) removeGroup(child);
  rmdirSync(path);
  return true;
}
