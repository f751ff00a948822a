/** What arrives of the captured tables, free of any language: the input of the text builders. */
import type { Operation } from "../api/capture.ts";
import type { ContextSpec } from "../capture/context.ts";
import { type DesiredTable, type ObservedRelation, type TableName, tableText } from "../capture/model.ts";
import type { ObservedColumns, ObservedTable, ObservedTableColumn } from "./model.ts";
import { typeName, uniqueNames } from "./names.ts";
import { type Field, type NamedShape, type Shapes, shapesOf } from "./shape.ts";

export interface TypedTable extends TableName {
  readonly typeName: string;
  readonly comment: string | null;
  /** Of its columns; events name it in `dataschema`. */
  readonly version: string;
  /** Its rows tell in the context which partition holds them. */
  readonly partitioned: boolean;
  readonly operations: readonly Operation[];
  readonly fields: readonly Field[];
  /** Those that identify a row, in key order; empty without a key. */
  readonly key: readonly Field[];
  /** Those that an Update holds in any case, where it holds only what it changed; null: it holds all. */
  readonly unchanged: readonly Field[] | null;
}

export interface EventTypes {
  readonly tables: readonly TypedTable[];
  readonly named: readonly NamedShape[];
  /** A TRUNCATE tells of each partition by itself. */
  readonly partitionTruncates: boolean;
  readonly context: ContextSpec;
}

export interface EventTypesInput {
  readonly tables: readonly DesiredTable[];
  readonly relations: readonly ObservedRelation[];
  readonly columns: ObservedColumns;
  readonly context: ContextSpec;
  /** Names that the texts use themselves. */
  readonly reserved: readonly string[];
}

export function eventTypes({ tables, relations, columns, context, reserved }: EventTypesInput): EventTypes {
  const unique = uniqueNames(reserved);
  const relationOf = new Map(relations.map((relation) => [tableKey(relation), relation]));
  const observed = new Map(columns.tables.map((table) => [tableKey(table), table]));
  const present = tables.flatMap((table) => {
    const relation = relationOf.get(tableKey(table));
    const found = observed.get(tableKey(table));
    if (table.isPartition || relation === undefined || found === undefined) return [];
    return [{ table, relation, found, typeName: unique(typeName(table.schema, table.name)) }];
  });
  const shapes = shapesOf(columns.types, (type) =>
    unique(typeName(type.schema, type.name) + (type.ofTable ? "Value" : "")),
  );
  return {
    tables: present.map((one) => typedTable(one, shapes)),
    named: shapes.named(),
    partitionTruncates: tables.some(({ isPartition, operations }) => isPartition && operations.length > 0),
    context,
  };
}

interface FoundTable {
  readonly table: DesiredTable;
  readonly relation: ObservedRelation;
  readonly found: ObservedTable;
  readonly typeName: string;
}

function typedTable({ table, relation, found, typeName }: FoundTable, shapes: Shapes): TypedTable {
  const { schema, name, operations } = table;
  const fields = capturedColumns(table, found.columns).map((captured) => fieldOf(captured, shapes));
  const { key: names, version } = aboutOf(table);
  const key = names.flatMap((name) => fields.find((field) => field.name === name) ?? []);
  return {
    schema,
    name,
    typeName,
    comment: found.comment,
    version,
    partitioned: relation.kind === "p",
    operations,
    fields,
    key: key.length === names.length ? key : [], // as event_key in sql/ does
    unchanged: ruleOf(table).payload === "Changes" ? key : null, // as changed_part in sql/ does
  };
}

/** `rowRule` of a table, read again. */
interface RowRule {
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly mask?: readonly string[];
  readonly hash?: readonly string[];
  readonly strict?: readonly string[];
  readonly payload?: "Changes" | "Key";
}

function ruleOf({ rule }: DesiredTable): RowRule {
  return rule === "" ? {} : (JSON.parse(rule) as RowRule);
}

/** `aboutTable` of a table, read again. */
function aboutOf({ about }: DesiredTable): { readonly key: readonly string[]; readonly version: string } {
  return JSON.parse(about) as { key: string[]; version: string };
}

interface CapturedColumn {
  readonly column: ObservedTableColumn;
  readonly as: "Value" | "Mask" | "Hash";
}

/** What shape_row in sql/ leaves of a row. */
function capturedColumns(table: DesiredTable, columns: readonly ObservedTableColumn[]): CapturedColumn[] {
  const rule = ruleOf(table);
  const { include, exclude = [], mask = [], hash = [], strict = [], payload } = rule;
  const present = columns.map(({ name }) => name);
  if (strict.some((name) => !present.includes(name))) return [];
  return columns
    .filter(({ name }) => (include === undefined ? !exclude.includes(name) : include.includes(name)))
    .filter(({ name }) => payload !== "Key" || aboutOf(table).key.includes(name))
    .map((column) => {
      const as = mask.includes(column.name) ? "Mask" : hash.includes(column.name) ? "Hash" : "Value";
      return { column, as };
    });
}

function fieldOf({ column, as }: CapturedColumn, shapes: Shapes): Field {
  const { name, virtual, notNull, typeText, comment } = column;
  if (virtual) return { name, shape: { kind: "null" }, nullable: false, typeText, comment };
  const shape = shapes.of(column);
  if (as === "Value") return { name, shape, nullable: !notNull, typeText, comment };
  const nullable = !notNull || shape.kind === "any"; // null in JSON stays null, too
  return { name, shape: { kind: as === "Mask" ? "mask" : "text" }, nullable, typeText, comment };
}

/** Without the ambiguity of `schema.table`. */
function tableKey({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}

/** How a table is called among the others: two that differ only in where the dot is share it. */
export function tablesByText(tables: readonly TypedTable[]): Map<string, TypedTable[]> {
  const byText = new Map<string, TypedTable[]>();
  for (const table of tables) {
    const text = tableText(table);
    byText.set(text, [...(byText.get(text) ?? []), table]);
  }
  return byText;
}
