/** The text of a `.d.ts`: what is the same everywhere, and the tables. */
import type { ContextSpec } from "../capture/context.ts";
import { tableText } from "../capture/model.ts";
import { docComment, propertyName, stringLiteral } from "./escape.ts";
import { type EventTypes, type TypedTable, tablesByText } from "./events.ts";
import { type Field, MASK, type NamedShape, type Shape } from "./shape.ts";
import { PARTITION_TRUNCATE, PRELUDE } from "./typescript-prelude.ts";

export function typescriptText(types: EventTypes): string {
  return [
    PRELUDE,
    contextText(types.context),
    ...(types.partitionTruncates ? [PARTITION_TRUNCATE] : []),
    `/** Every event of a row, or of a TRUNCATE. */\nexport type ChangeEvent = TableEvent${types.partitionTruncates ? " | CloudEvent<PartitionTruncate>" : ""};\n`,
    tablesText(types.tables),
    ...types.tables.map(rowText),
    ...types.named.map(namedText),
  ].join("\n");
}

function contextText({ query, settings, traceparent }: ContextSpec): string {
  const inSettings = settings?.map((name) => `    ${propertyName(name)}: string | null;\n`).join("");
  return [
    "/** Who made a change. */\nexport interface Context {\n",
    "  session_user: string;\n  application_name: string;\n",
    query ? "  /** Text of the statement. */\n  query: string | null;\n" : "",
    inSettings === undefined ? "" : `  settings: {\n${inSettings}  };\n`,
    traceparent === undefined ? "" : "  traceparent: string | null;\n",
    "}\n",
  ].join("");
}

function tablesText(tables: readonly TypedTable[]): string {
  const entries = [...tablesByText(tables)].map(([text, ofText]) => {
    return `  ${stringLiteral(text)}: ${ofText.map(tableType).join(" | ")};\n`;
  });
  return `/** The captured tables. */\nexport interface Tables {\n${entries.join("")}}\n`;
}

function tableType({ schema, name, typeName, key, unchanged, operations, partitioned }: TypedTable): string {
  const columns = key.map((field) => `${typeName}[${stringLiteral(field.name)}]`);
  return [
    "{",
    `    schema: ${stringLiteral(schema)};`,
    `    table: ${stringLiteral(name)};`,
    `    row: ${typeName};`,
    ...(unchanged === null ? [] : [`    changed: ${changesText(typeName, unchanged)};`]),
    `    key: ${columns.length === 0 ? "null" : `[${columns.join(", ")}]`};`,
    `    operation: ${operations.map(stringLiteral).join(" | ")};`,
    `    context: Context${partitioned ? " & InPartition" : ""};`,
    "  }",
  ].join("\n");
}

function changesText(typeName: string, unchanged: readonly Field[]): string {
  const kept = unchanged.map(({ name }) => stringLiteral(name)).join(" | ");
  return `Partial<${typeName}>${kept === "" ? "" : ` & Pick<${typeName}, ${kept}>`}`;
}

function rowText(table: TypedTable): string {
  return interfaceText(table.typeName, [tableText(table), table.comment], table.fields);
}

function namedText(named: NamedShape): string {
  if (named.kind === "object") return interfaceText(named.name, [named.title], named.fields);
  const labels = named.labels.length === 0 ? "never" : named.labels.map(stringLiteral).join(" | ");
  return `${docComment([named.title])}export type ${named.name} = ${labels};\n`;
}

function interfaceText(name: string, about: readonly (string | null)[], fields: readonly Field[]): string {
  const properties = fields.map((field) => {
    return `${docComment([field.comment, noteOf(field)], "  ")}  ${propertyName(field.name)}: ${fieldType(field)};\n`;
  });
  return `${docComment(about)}export interface ${name} {\n${properties.join("")}}\n`;
}

function noteOf({ typeText, shape }: Field): string {
  if (shape.kind === "mask") return `${typeText}, masked`;
  if (shape.kind === "null") return `${typeText}, generated when it is read: events never hold it`;
  const wide = shape.kind === "integer" && shape.range === null;
  return wide ? `${typeText}: JavaScript rounds beyond 2^53` : typeText;
}

function fieldType({ shape, nullable }: Field): string {
  const text = shapeText(shape);
  return nullable && shape.kind !== "any" ? `${text} | null` : text;
}

function shapeText(shape: Shape): string {
  switch (shape.kind) {
    case "boolean":
      return "boolean";
    case "text":
      return "string";
    case "mask":
      return stringLiteral(MASK);
    case "any":
      return "unknown";
    case "null":
      return "null";
    case "integer":
      return "number";
    case "number":
      return shape.words.length === 1 ? `number | ${stringLiteral(shape.words[0] ?? "")}` : "Float";
    case "array":
      return `PgArray<${shapeText(shape.element)}>`;
    case "texts":
      return "{ [key: string]: string | null }";
    case "named":
      return shape.name;
  }
}
