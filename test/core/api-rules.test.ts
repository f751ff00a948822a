import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { pgEventSourceCrd } from "../../scripts/generate/crd.ts";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { PgEventsError } from "../../src/core/errors.ts";
import { RULE_CASES, SHAPE_CASES, UPDATE_CASES } from "../support/crd-cases.ts";

const refusal = (text: string) => (error: unknown) => {
  assert.ok(error instanceof PgEventsError);
  assert.equal(error.code, "PGE_MANIFEST_INVALID");
  assert.ok(error.message.includes(text), `expected "${text}" in "${error.message}"`);
  return true;
};

describe("parse runs the twin of each CEL rule", () => {
  for (const { rule, accepted, refused } of RULE_CASES) {
    test(rule, () => {
      for (const manifest of accepted) parsePgEventSource(manifest, "the case");
      for (const manifest of refused)
        assert.throws(() => parsePgEventSource(manifest, "the case"), refusal(rule));
    });
  }
});

describe("parse takes the shapes the API server takes", () => {
  for (const { title, manifest, accepted } of SHAPE_CASES) {
    test(`${accepted ? "accepts" : "refuses"} ${title}`, () => {
      if (accepted) parsePgEventSource(manifest, "the case");
      else assert.throws(() => parsePgEventSource(manifest, "the case"), refusal("spec"));
    });
  }
});

test("every rule of the CRD has cases, and every case is about a rule of the CRD", () => {
  const inCrd = new Set(
    messagesIn(pgEventSourceCrd()).map((message) => message.replace(/^metadata\.name /, "")),
  );
  const inCases = new Set([...RULE_CASES, ...UPDATE_CASES].map(({ rule }) => rule));
  assert.deepEqual([...inCases].sort(), [...inCrd].sort());
});

function messagesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, field]) =>
    key === "x-kubernetes-validations"
      ? (field as { message: string }[]).map(({ message }) => message)
      : messagesIn(field),
  );
}
