import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { readSamples } from "../support/samples.ts";

test("there are samples", () => assert.ok(readSamples().length >= 2));

test("the manifest of docs/modules.md is a valid PgEventSource", () => {
  const text = readFileSync(join(import.meta.dirname, "../../docs/modules.md"), "utf8");
  const [, manifest] = /^```yaml\n(.*?)^```/ms.exec(text) ?? [];
  const { spec } = parsePgEventSource(parse(manifest ?? ""), "docs/modules.md");
  assert.equal(spec.callbacks[0]?.module?.configMapRef?.key, "orders.mjs");
});

for (const sample of readSamples()) {
  test(`the sample ${sample.metadata.name} is a valid PgEventSource`, () => {
    assert.equal(parsePgEventSource(sample, "the sample").metadata.name, sample.metadata.name);
  });
}
