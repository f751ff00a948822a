/**
 * From zod to the structural schema of a CRD. Strict on purpose: a keyword that is not in the list
 * below stops the generator, so nothing is lost on the way to the API server without notice.
 */
import { z } from "zod";

export type JsonSchema = Record<string, unknown>;

/** Keywords that go over as they are, in the order in which they are written. */
const KEPT = [
  "description",
  "type",
  "format",
  "enum",
  "default",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "pattern",
  "minItems",
  "maxItems",
  "maxProperties",
  "required",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
  "x-kubernetes-int-or-string",
  "x-kubernetes-preserve-unknown-fields",
] as const;
const NESTED = ["properties", "items", "additionalProperties", "anyOf", "x-kubernetes-validations"];
const INT_OR_STRING = "x-kubernetes-int-or-string";

/**
 * @param schema what users write, before defaults
 * @throws Error with the path of a keyword that a CRD cannot hold
 */
export function structuralSchema(schema: z.ZodType): JsonSchema {
  const json = z.toJSONSchema(schema, {
    target: "openapi-3.0",
    io: "input",
    unrepresentable: "any",
  }) as JsonSchema;
  return convert(json, "spec");
}

/** Copies field by field and gives each the converted schema. */
export function mapFields(
  fields: unknown,
  convertOne: (field: JsonSchema, name: string) => JsonSchema,
): JsonSchema {
  const entries = Object.entries((fields ?? {}) as Record<string, JsonSchema>);
  return Object.fromEntries(entries.map(([name, field]) => [name, convertOne(field, name)]));
}

function convert(json: JsonSchema, path: string): JsonSchema {
  const unknown = Object.keys(json).find(
    (key) => !(KEPT as readonly string[]).includes(key) && !NESTED.includes(key),
  );
  if (unknown !== undefined) throw new Error(`${path}: a CRD cannot hold the keyword ${unknown}`);
  const result: JsonSchema = {};
  for (const key of KEPT)
    if (json[key] !== undefined && !isSafeIntegerBound(key, json[key])) result[key] = json[key];
  refuseLookAround(json.pattern, path);
  convertUnion(json, result, path);
  if (json.properties !== undefined) {
    result.properties = mapFields(json.properties, (field, name) => convert(field, `${path}.${name}`));
  } else {
    convertMap(json, result, path);
  }
  if (json.items !== undefined) result.items = convert(json.items as JsonSchema, `${path}[]`);
  if ((json["x-kubernetes-validations"] as unknown[] | undefined)?.length) {
    result["x-kubernetes-validations"] = json["x-kubernetes-validations"];
  }
  if (result.type === undefined && result[INT_OR_STRING] !== true) throw new Error(`${path}: has no type`);
  return result;
}

/** zod writes the range of a double's safe integers for each integer without limits of its own. */
function isSafeIntegerBound(key: string, value: unknown): boolean {
  return (key === "minimum" || key === "maximum") && Math.abs(value as number) === Number.MAX_SAFE_INTEGER;
}

/** The API server's expressions (RE2) have no look-around and no back-references. */
function refuseLookAround(pattern: unknown, path: string): void {
  if (typeof pattern === "string" && /\(\?[=!<]|\\[1-9]/.test(pattern)) {
    throw new Error(`${path}: the pattern ${pattern} needs look-around, which the API server does not have`);
  }
}

/** The only union of a structural schema: a whole number or text, such as a quantity. */
function convertUnion(json: JsonSchema, result: JsonSchema, path: string): void {
  if (json.anyOf === undefined) return;
  const types = (json.anyOf as JsonSchema[]).map((option) => option.type);
  if (json[INT_OR_STRING] !== true || types.join() !== "integer,string") {
    throw new Error(`${path}: a CRD cannot hold this union`);
  }
  result.anyOf = [{ type: "integer" }, { type: "string" }];
}

/** `additionalProperties` is kept for maps only: beside `properties` a structural schema refuses it. */
function convertMap(json: JsonSchema, result: JsonSchema, path: string): void {
  const value = json.additionalProperties;
  if (typeof value !== "object" || value === null || json["x-kubernetes-preserve-unknown-fields"] === true)
    return;
  if (Object.keys(value).length === 0) throw new Error(`${path}: a map needs a schema for its values`);
  result.additionalProperties = convert(value as JsonSchema, `${path}.*`);
}
