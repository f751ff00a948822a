/** `npm run bench [writers|relay|start|crash|builds|retained]`: prints Markdown tables of medians with their ranges. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { benchBuilds } from "./builds.ts";
import { benchCrash } from "./crash.ts";
import { benchRelay } from "./relay.ts";
import { benchRetained } from "./retained.ts";
import { machine, startBench } from "./setup.ts";
import { benchStart } from "./start.ts";
import { benchWriters } from "./writers.ts";

const wanted = process.argv.slice(2);
execFileSync(process.execPath, [join(import.meta.dirname, "../scripts/build.ts")]);
const bench = await startBench();
try {
  const lines = [await machine(bench.client), ""];
  if (wanted.length === 0 || wanted.includes("writers")) lines.push(...(await benchWriters(bench)), "");
  if (wanted.length === 0 || wanted.includes("relay")) lines.push(...(await benchRelay(bench)), "");
  if (wanted.length === 0 || wanted.includes("start")) lines.push(...(await benchStart(bench)), "");
  if (wanted.length === 0 || wanted.includes("crash")) lines.push(...(await benchCrash(bench)), "");
  if (wanted.length === 0 || wanted.includes("builds")) lines.push(...(await benchBuilds(bench)), "");
  if (wanted.length === 0 || wanted.includes("retained")) lines.push(...(await benchRetained(bench)), "");
  process.stdout.write(`${lines.join("\n")}\n`);
} finally {
  await bench.close();
}
