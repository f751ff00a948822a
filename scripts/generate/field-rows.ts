/** Reads a JSON schema as the rows of a reference table; the CRD and the chart's values both use it. */
import { DNS_SUBDOMAIN } from "../../src/core/api/fields.ts";
import { code } from "./markdown.ts";
import type { JsonSchema } from "./structural.ts";

export interface FieldRow {
  path: string;
  type: string;
  default: string;
  limits: string;
  description: string;
}

export const FIELD_COLUMNS = ["Field", "Type", "Default", "Limits", "Description"];

/** One row for every field under `schema`, parents before children. */
export function fieldRows(schema: JsonSchema, prefix = ""): FieldRow[] {
  const fields = Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>);
  const required = (schema.required ?? []) as string[];
  return fields.flatMap(([name, field]) => {
    const path = prefix === "" ? name : `${prefix}.${name}`;
    return [rowOf(path, field, required.includes(name)), ...childRows(path, field)];
  });
}

export const rowCells = (row: FieldRow) => [
  code(row.path),
  row.type,
  row.default,
  row.limits,
  row.description,
];

function childRows(path: string, field: JsonSchema): FieldRow[] {
  const items = field.items as JsonSchema | undefined;
  return items === undefined ? fieldRows(field, path) : fieldRows(items, `${path}[]`);
}

function rowOf(path: string, field: JsonSchema, required: boolean): FieldRow {
  const text = String(field.description ?? "");
  const said = /^(.*?)\s*Default: ([\s\S]*)\.$/.exec(text);
  return {
    path,
    type: typeText(field),
    default: required ? "**required**" : defaultText(field, said?.[2]),
    limits: limitsText(field),
    description: said?.[1] ?? text,
  };
}

function defaultText(field: JsonSchema, said: string | undefined): string {
  if (said !== undefined && (typeof field.default === "object" || field.default === undefined)) return said;
  if (field.default === undefined || JSON.stringify(field.default) === "{}") return "";
  return code(
    typeof field.default === "string" && field.default !== "" ? field.default : JSON.stringify(field.default),
  );
}

function typeText(field: JsonSchema): string {
  if (field["x-kubernetes-int-or-string"] === true) return "quantity";
  if (Array.isArray(field.anyOf)) return (field.anyOf as JsonSchema[]).map(typeText).join(" or ");
  if (field.type === "array") return `list of ${typeText((field.items ?? {}) as JsonSchema)}`;
  const values = field.additionalProperties;
  if (typeof values === "object" && values !== null && Object.keys(values).length > 0) {
    return `map of ${typeText(values as JsonSchema)}`;
  }
  return String(field.type ?? "any");
}

function limitsText(field: JsonSchema): string {
  if (field.enum !== undefined) return (field.enum as string[]).map(code).join(", ");
  const items = field.items as JsonSchema | undefined;
  const parts = [
    range(field.minimum, field.maximum, ""),
    range(field.minLength, field.maxLength, " characters"),
    range(field.minItems, field.maxItems, " entries"),
    range(undefined, field.maxProperties, " entries"),
    items?.enum === undefined ? "" : limitsText(items),
    patternText(field.pattern),
  ];
  return parts.filter((part) => part !== "").join("; ");
}

function patternText(pattern: unknown): string {
  if (pattern === undefined) return "";
  return pattern === DNS_SUBDOMAIN.source ? "lower-case DNS name" : `matches ${code(String(pattern))}`;
}

function range(low: unknown, high: unknown, unit: string): string {
  if (high === undefined) return low === undefined ? "" : `at least ${low}${unit}`;
  return low === undefined ? `at most ${high}${unit}` : `${low} to ${high}${unit}`;
}
