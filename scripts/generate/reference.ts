import { z } from "zod";
import { CONDITION_TYPES, EVENT_REASONS, REASONS } from "../../src/core/api/conditions.ts";
import { manifestSchema } from "../../src/core/api/parse.ts";
import { API_VERSION, KIND } from "../../src/core/api/source.ts";
import { pgEventSourceCrd } from "./crd.ts";
import { FIELD_COLUMNS, type FieldRow, fieldRows, rowCells } from "./field-rows.ts";
import { code, GENERATED_MARKDOWN, table } from "./markdown.ts";
import type { JsonSchema } from "./structural.ts";

const INTRODUCTION = `# ${KIND}, ${code(API_VERSION)}

What a manifest may hold. The same text is shown by ${code("kubectl explain pgeventsource.spec")}. A
field that is not listed is refused by ${code("pg-events")} and dropped, with a warning, by the API
server. For an editor there is [pgeventsource.schema.json](pgeventsource.schema.json); samples are in
[deploy/samples](../../deploy/samples).

In the cluster ${code("spec.database")} is required. A manifest for ${code("pg-events build")},
${code("worker")} or ${code("dev")} may leave it out and name the database with
${code("--database-url")} or ${code("PG_EVENTS_DATABASE_URL")}.`;

const CONDITIONS = `Conditions are found in ${code("status.conditions")}. The reasons are also those of the Kubernetes
events that the operator writes.`;

/** docs/reference/pgeventsource.md */
export function fieldReference(): string {
  const root = rootSchema().properties;
  const sections = [
    GENERATED_MARKDOWN,
    INTRODUCTION,
    "## Spec",
    fieldTable(root.spec),
    "## Rules",
    "Beside the limits of single fields these rules hold, on the API server and in `pg-events` alike.",
    table(["Where", "Rule"], ruleRows(rootSchema())),
    "## Status",
    table(["Field", "Type", "Description"], fieldRows(root.status).map(statusCells)),
    "## Conditions",
    CONDITIONS,
    table(
      ["Type", "True when"],
      Object.entries(CONDITION_TYPES).map(([type, text]) => [code(type), text]),
    ),
    "## Reasons",
    table(
      ["Reason", "Meaning"],
      Object.entries(REASONS).map(([reason, text]) => [code(reason), text]),
    ),
    "## Events",
    "A change of Ready is told as a Kubernetes event with its reason. Other events say that something was done:",
    table(
      ["Reason", "Meaning"],
      Object.entries(EVENT_REASONS).map(([reason, text]) => [code(reason), text]),
    ),
  ];
  return `${sections.join("\n\n")}\n`;
}

/** docs/reference/pgeventsource.schema.json: JSON Schema draft 7, which YAML editors read. */
export function editorSchema(): string {
  const json = z.toJSONSchema(manifestSchema, { target: "draft-7", io: "input", unrepresentable: "any" });
  const titled = { ...(withoutKubernetesKeys(json) as object), title: KIND };
  return `${JSON.stringify(titled, null, 2)}\n`;
}

function rootSchema() {
  const [version] = pgEventSourceCrd().spec.versions;
  return version?.schema.openAPIV3Schema as JsonSchema & {
    properties: Record<"spec" | "status", JsonSchema>;
  };
}

function fieldTable(schema: JsonSchema): string {
  return table(FIELD_COLUMNS, fieldRows(schema).map(rowCells));
}

const statusCells = (row: FieldRow) => [code(row.path), row.type, row.description];

function ruleRows(schema: JsonSchema, path = ""): string[][] {
  const rules = (schema["x-kubernetes-validations"] ?? []) as { message: string }[];
  const own = rules.map(({ message }) => [path === "" ? "" : code(path), message]);
  const fields = Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>);
  const below = fields.flatMap(([name, field]) => ruleRows(field, path === "" ? name : `${path}.${name}`));
  const items = schema.items === undefined ? [] : ruleRows(schema.items as JsonSchema, `${path}[]`);
  return [...own, ...below, ...items];
}

/** Leaves what JSON Schema knows, without the limits zod writes for each integer that has none. */
function withoutKubernetesKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutKubernetesKeys);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(
    ([key, field]) => !key.startsWith("x-kubernetes-") && Math.abs(Number(field)) !== Number.MAX_SAFE_INTEGER,
  );
  return Object.fromEntries(kept.map(([key, field]) => [key, withoutKubernetesKeys(field)]));
}
