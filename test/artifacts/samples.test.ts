import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { readSamples } from "../support/samples.ts";

test("there are samples", () => assert.ok(readSamples().length >= 2));

for (const sample of readSamples()) {
  test(`the sample ${sample.metadata.name} is a valid PgEventSource`, () => {
    assert.equal(parsePgEventSource(sample, "the sample").metadata.name, sample.metadata.name);
  });
}
