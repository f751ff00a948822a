/**
 * What the chart renders with its defaults, and what every single value changes of that, as files to be reviewed.
 * `npm run snapshots` writes them anew.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { valuesSchema, yamlText } from "../../scripts/generate/chart.ts";
import { fieldRows } from "../../scripts/generate/field-rows.ts";
import { type KubernetesObject, renderChart } from "../support/chart.ts";
import { SWITCHES } from "../support/chart-switches.ts";

const DIRECTORY = join(import.meta.dirname, "snapshots");
const SHOWN_LINES = 40;
const NO_EFFECT = ["global"];
/** Long texts that other tests look at. */
const ELSEWHERE =
  /^(CustomResourceDefinition \S+ spec|Pod \S+ spec\.containers\.0\.args\.2|ConfigMap \S+ data\.pg-events\.json)/;

test("the defaults are rendered as in the snapshot", async () => {
  const objects = await renderChart({}, { tests: true });
  compare("defaults.yaml", objects.map((object) => yamlText(shortened(object))).join("---\n"));
});

test("every value changes what the snapshot says, and nothing else", async () => {
  // The CRD is the same but for these values, and long.
  const without = { crds: { enabled: false } };
  const before = linesOf(await renderChart(without, { tests: true }));
  const changes = await Promise.all(
    Object.entries(SWITCHES).map(async ([title, values]) => {
      const after = linesOf(await renderChart({ ...without, ...values }, { tests: true }));
      return { title, lines: differences(before, after) };
    }),
  );
  for (const { title, lines } of changes)
    assert.equal(lines.length === 0, NO_EFFECT.includes(title), `${title} changes nothing`);
  const sections = changes.map(
    ({ title, lines }) => `## ${title}\n${lines.map((line) => `${line}\n`).join("")}`,
  );
  compare("values.txt", sections.join("\n"));
});

test("every value of the schema has a switch", () => {
  const rows = fieldRows(JSON.parse(valuesSchema())).map(({ path }) => path);
  const leaves = rows.filter(
    (path) => !path.includes("[]") && !rows.some((other) => other.startsWith(`${path}.`)),
  );
  const set = new Set(Object.values(SWITCHES).flatMap((values) => pathsOf(values)));
  assert.deepEqual(
    leaves.filter((leaf) => !set.has(leaf)),
    [],
  );
});

function compare(name: string, text: string): void {
  const file = join(DIRECTORY, name);
  if (process.env.UPDATE_SNAPSHOTS) writeFileSync(file, text);
  const stored = readFileSync(file, "utf8");
  if (text === stored) return;
  const now = text.split("\n");
  const before = stored.split("\n");
  const gone = before.filter((line) => !now.includes(line)).map((line) => `not rendered: ${line}`);
  const come = now.filter((line) => !before.includes(line)).map((line) => `not in the file: ${line}`);
  const changes = [...gone, ...come].slice(0, SHOWN_LINES).join("\n");
  assert.fail(`${name} is another one. If that is meant: npm run snapshots, and commit it.\n${changes}`);
}

/** Of each object one line for each value in it: where it is, and what. */
function linesOf(objects: KubernetesObject[]): Map<string, string[]> {
  return new Map(
    objects.map((object) => {
      const { name, namespace } = object.metadata;
      const title = `${object.kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
      const lines = leaves(object, "").map(([path, value]) => `${title} ${path} = ${JSON.stringify(value)}`);
      return [title, [...new Set(lines.map((line) => ELSEWHERE.exec(line)?.[0] ?? line))]];
    }),
  );
}

/** What is gone with `-`, what is new with `+`; of an object that is gone its name alone. */
function differences(before: Map<string, string[]>, after: Map<string, string[]>): string[] {
  const titles = [...before.keys(), ...[...after.keys()].filter((title) => !before.has(title))];
  return titles.flatMap((title) => {
    const now = after.get(title);
    if (now === undefined) return [`- ${title}`];
    const old = before.get(title) ?? [];
    const gone = old.filter((line) => !now.includes(line)).map((line) => `- ${line}`);
    return [...gone, ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)];
  });
}

function leaves(value: unknown, path: string): [string, unknown][] {
  if (typeof value !== "object" || value === null || Object.keys(value).length === 0) return [[path, value]];
  return Object.entries(value).flatMap(([name, field]) =>
    leaves(field, path === "" ? name : `${path}.${name}`),
  );
}

/** Of a set of values, also those in the middle: a value may be a map. */
function pathsOf(values: object): string[] {
  const all = leaves(values, "").map(([path]) => path.split("."));
  return all.flatMap((words) => words.map((_, index) => words.slice(0, index + 1).join(".")));
}

function shortened(object: KubernetesObject): KubernetesObject {
  if (object.kind === "CustomResourceDefinition") return { ...object, spec: "…" };
  if (object.kind !== "Pod") return object;
  const [container] = object.spec.containers;
  const args = [...container.args.slice(0, 2), "…"];
  return { ...object, spec: { ...object.spec, containers: [{ ...container, args }] } };
}
