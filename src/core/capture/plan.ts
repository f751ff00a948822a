/** Which tables the spec asks for, among the relations that exist. Pure. */
import { type CaptureSpec, OPERATIONS, type Operation, type TableSpec } from "../api/capture.ts";
import {
  type CaptureEntry,
  type DesiredTable,
  type Finding,
  type ObservedCatalog,
  type ObservedRelation,
  type SchemaChangeMode,
  type TableFailure,
  type TableName,
  tableText,
} from "./model.ts";

const EVERY_TABLE: CaptureEntry = { schema: null, name: "*", operations: [...OPERATIONS] };

export interface CapturePlan {
  readonly tables: readonly DesiredTable[];
  readonly failures: readonly TableFailure[];
  readonly findings: readonly Finding[];
}

/** @param relations all relations of schemas that are neither PostgreSQL's nor pg-events' own */
export function planCapture(spec: CaptureSpec, relations: readonly ObservedRelation[]): CapturePlan {
  const entries = spec.tables ?? [...new Set(relations.map(({ schema }) => schema))].map(wholeSchema);
  const tables: DesiredTable[] = [];
  const skipped = new Map<string, number>();
  for (const relation of relations) {
    const entry = entryFor(entries, relation.root ?? relation);
    if (entry === undefined) continue;
    const obstacle = obstacleOf(relation) ?? (entry.name === "*" ? reasonToSkip(relation) : null);
    if (obstacle === null) tables.push(desiredTable(relation, entry.operations));
    else if (entry.name === "*") skipped.set(obstacle, (skipped.get(obstacle) ?? 0) + 1);
  }
  return {
    tables,
    failures: entries.flatMap((entry) => failureOf(entry, relations)),
    findings: [...skipped].map(([obstacle, count]) => ({
      message: `${count} skipped under '*': ${obstacle}.`,
    })),
  };
}

/** What the functions in the database need to know to capture a table that comes. */
export function captureEntries({ tables }: CaptureSpec): CaptureEntry[] {
  return (
    tables?.map(({ schema, name, exclude, operations }) => ({ schema, name, exclude, operations })) ?? [
      EVERY_TABLE,
    ]
  );
}

/** Event triggers that are there stay in use, whoever made them. */
export function schemaChangeMode(
  wanted: CaptureSpec["schemaChanges"],
  { mayMakeEventTriggers, eventTriggers }: Pick<ObservedCatalog, "mayMakeEventTriggers" | "eventTriggers">,
): SchemaChangeMode {
  if (wanted !== "Auto") return wanted;
  const there = eventTriggers.length > 0 && eventTriggers.every(({ current }) => current);
  return mayMakeEventTriggers || there ? "EventTrigger" : "Poll";
}

function wholeSchema(schema: string): TableSpec {
  return { schema, name: "*", operations: [...OPERATIONS] };
}

/** A partition's rows are captured by its root; only TRUNCATE is a matter of each. */
function desiredTable(
  { schema, name, root }: ObservedRelation,
  operations: readonly Operation[],
): DesiredTable {
  if (root === null) return { schema, name, isPartition: false, operations };
  return { schema, name, isPartition: true, operations: operations.filter((one) => one === "Truncate") };
}

/** An entry with the table's name wins over '*'. */
function entryFor(entries: readonly TableSpec[], table: TableName): TableSpec | undefined {
  const ofSchema = entries.filter(({ schema }) => schema === table.schema);
  return (
    ofSchema.find(({ name }) => name === table.name && name !== "*") ??
    ofSchema.find(({ name, exclude }) => name === "*" && exclude?.includes(table.name) !== true)
  );
}

/** Why a relation cannot be captured; null when it can. */
function obstacleOf({ kind }: ObservedRelation): string | null {
  if (kind === "v" || kind === "m") return "views hold no rows of their own; capture the tables behind them";
  if (kind === "f") return "foreign tables change elsewhere; capture them in their own database";
  return null;
}

/** Why '*' leaves out a relation that could be captured by name. */
function reasonToSkip({ ofExtension }: ObservedRelation): string | null {
  return ofExtension ? "tables of an extension are captured only by name" : null;
}

function failureOf(entry: TableSpec, relations: readonly ObservedRelation[]): TableFailure[] {
  if (entry.name === "*") return [];
  const table = tableText(entry);
  const relation = relations.find(({ schema, name }) => schema === entry.schema && name === entry.name);
  if (relation === undefined) {
    const message = `Table ${table} does not exist; it is captured as soon as it does.`;
    return [{ table, reason: "TableNotFound", message }];
  }
  const { root } = relation;
  const obstacle =
    root === null
      ? obstacleOf(relation)
      : `a partition is captured with the table it is a part of; name ${tableText(root)}`;
  return obstacle === null ? [] : [{ table, reason: "TableNotSupported", message: `${table}: ${obstacle}.` }];
}
