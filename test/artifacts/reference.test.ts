import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pgEventSourceCrd } from "../../scripts/generate/crd.ts";
import { fieldRows } from "../../scripts/generate/field-rows.ts";
import { table } from "../../scripts/generate/markdown.ts";
import { editorSchema, fieldReference } from "../../scripts/generate/reference.ts";
import type { JsonSchema } from "../../scripts/generate/structural.ts";
import { CONDITION_TYPES, REASONS } from "../../src/core/api/conditions.ts";
import { readSamples } from "../support/samples.ts";

const schema = pgEventSourceCrd().spec.versions[0]?.schema.openAPIV3Schema as {
  properties: Record<string, JsonSchema>;
};

describe("descriptions, which kubectl explain shows", () => {
  for (const part of ["spec", "status"]) {
    test(`every field of ${part} has one that ends as a sentence`, () => {
      for (const [path, field] of allFields(schema.properties[part] as JsonSchema, part)) {
        assert.match(String(field.description), /^[A-Z`].*\.$/, path);
      }
    });
  }

  test("say the default that the schema has", () => {
    for (const [path, field] of allFields(schema.properties.spec as JsonSchema, "spec")) {
      if (field.default === undefined || typeof field.default === "object") continue;
      assert.ok(
        String(field.description).includes(`Default: ${field.default}`),
        `${path} has the default ${field.default}`,
      );
    }
  });

  test("say what happens without an optional field that has no default", () => {
    for (const [path, field, required] of allFields(schema.properties.spec as JsonSchema, "spec")) {
      if (required || field.default !== undefined) continue;
      assert.match(String(field.description), /Default: /, path);
    }
  });

  test("name the unit of every duration and size", () => {
    for (const [path, field] of allFields(schema.properties.spec as JsonSchema, "spec")) {
      const unit = /(Milliseconds|Seconds|Bytes)$/.exec(path)?.[1];
      if (unit !== undefined) assert.ok(String(field.description).startsWith(unit), path);
    }
  });
});

describe("the reference page", () => {
  const page = fieldReference();

  test("has every condition and every reason", () => {
    for (const word of [...Object.keys(CONDITION_TYPES), ...Object.keys(REASONS)]) {
      assert.ok(page.includes(`| \`${word}\` |`), word);
    }
  });

  test("has a row for every field of the full sample", () => {
    const full = readSamples().find((sample) => sample.metadata.name === "shop-full");
    for (const path of pathsOf(full?.spec)) assert.ok(page.includes(`| \`${path}\` |`), path);
  });
});

test("the full sample holds every field", () => {
  const full = readSamples().find((sample) => sample.metadata.name === "shop-full");
  const present = new Set(pathsOf(full?.spec));
  const missing = fieldRows(schema.properties.spec as JsonSchema).filter((row) => !present.has(row.path));
  assert.deepEqual(
    missing.map((row) => row.path),
    [],
  );
});

test("the editor schema lets a manifest leave the database out, and no field in that is unknown", () => {
  const editor = JSON.parse(editorSchema());
  assert.deepEqual(editor.required, ["apiVersion", "kind", "metadata", "spec"]);
  assert.deepEqual(editor.properties.spec.required, ["callbacks"]);
  assert.equal(editor.properties.spec.additionalProperties, false);
  assert.doesNotMatch(editorSchema(), /x-kubernetes|9007199254740991/);
});

test("a cell of a table cannot break it", () => {
  assert.equal(table(["a"], [["x | y <b> `<c>`"]]).split("\n")[2], "| x \\| y &lt;b> `<c>` |");
});

test("the chart has the version of the package", () => {
  const root = join(import.meta.dirname, "../..");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const chart = readFileSync(join(root, "charts/pg-events/Chart.yaml"), "utf8");
  assert.match(chart, new RegExp(`^version: ${version}$`, "m"));
  assert.match(chart, new RegExp(`^appVersion: ${version}$`, "m"));
});

function* allFields(part: JsonSchema, path: string): Generator<[string, JsonSchema, boolean]> {
  const required = (part.required ?? []) as string[];
  for (const [name, field] of Object.entries((part.properties ?? {}) as Record<string, JsonSchema>)) {
    yield [`${path}.${name}`, field, required.includes(name)];
    yield* allFields(field, `${path}.${name}`);
    if (field.items !== undefined) yield* allFields(field.items as JsonSchema, `${path}.${name}[]`);
  }
}

/** Of the fields the schema knows: what a user puts under `affinity` is his own. */
function pathsOf(value: unknown): string[] {
  const known = new Set(fieldRows(schema.properties.spec as JsonSchema).map((row) => row.path));
  const walk = (at: unknown, path: string): string[] => {
    if (Array.isArray(at)) return at.flatMap((item) => walk(item, `${path}[]`));
    if (typeof at !== "object" || at === null) return [];
    return Object.entries(at).flatMap(([name, field]) => {
      const below = path === "" ? name : `${path}.${name}`;
      return [below, ...walk(field, below)];
    });
  };
  return walk(value, "").filter((path) => known.has(path));
}
