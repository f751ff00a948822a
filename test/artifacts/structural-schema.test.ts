import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { z } from "zod";
import { structuralSchema } from "../../scripts/generate/structural.ts";

describe("the CRD converter", () => {
  test("drops what zod adds and a structural schema refuses", () => {
    const schema = z.strictObject({
      count: z.int().optional(),
      names: z.record(z.string(), z.string()).optional(),
    });
    assert.deepEqual(structuralSchema(schema), {
      type: "object",
      properties: {
        count: { type: "integer" },
        names: { type: "object", additionalProperties: { type: "string" } },
      },
    });
  });

  test("keeps limits of ones own, defaults and Kubernetes keywords", () => {
    const list = z.array(z.string()).max(3).meta({ "x-kubernetes-list-type": "set" });
    const schema = z.strictObject({ count: z.int().min(0).max(9).default(3), list });
    assert.deepEqual(structuralSchema(schema), {
      type: "object",
      required: ["list"],
      properties: {
        count: { type: "integer", default: 3, minimum: 0, maximum: 9 },
        list: { type: "array", maxItems: 3, "x-kubernetes-list-type": "set", items: { type: "string" } },
      },
    });
  });

  test("writes a whole number or text as Kubernetes does", () => {
    const amount = z.union([z.int(), z.string()]).meta({ "x-kubernetes-int-or-string": true });
    const { properties } = structuralSchema(z.strictObject({ amount: amount.optional() }));
    assert.deepEqual(properties, {
      amount: { "x-kubernetes-int-or-string": true, anyOf: [{ type: "integer" }, { type: "string" }] },
    });
  });

  interface Node {
    child?: Node | undefined;
  }
  const node: z.ZodType<Node> = z.lazy(() => z.strictObject({ child: node.optional() }));
  const refused: [string, z.ZodType, RegExp][] = [
    ["a union", z.strictObject({ a: z.union([z.string(), z.boolean()]) }), /^Error: spec\.a: .*union/],
    ["a recursive schema", node, /keyword|\$ref/],
    ["a value of any type", z.strictObject({ a: z.unknown() }), /^Error: spec\.a: has no type/],
    [
      "a map of any values",
      z.strictObject({ a: z.record(z.string(), z.unknown()) }),
      /^Error: spec\.a: a map needs/,
    ],
    [
      "a pattern with look-ahead",
      z.strictObject({ a: z.string().regex(/^(?!pg_)/) }),
      /^Error: spec\.a: .*look-around/,
    ],
    ["a back-reference", z.strictObject({ a: z.string().regex(/(a)\1/) }), /^Error: spec\.a: .*look-around/],
    ["a tuple", z.strictObject({ a: z.array(z.tuple([z.string()])) }), /^Error: spec\.a/],
  ];
  for (const [title, schema, message] of refused) {
    test(`refuses ${title}`, () => assert.throws(() => structuralSchema(schema), message));
  }
});
