/** Which tables the spec asks for, among the relations that exist. Pure. */
import { type CaptureSpec, OPERATIONS, type TableSpec } from "../api/capture.ts";
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
import { keepsIdentity, missingColumns, rowShape } from "./row-shape.ts";

const EVERY_TABLE: CaptureEntry = { schema: null, name: "*", operations: [...OPERATIONS], shape: "" };

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
  const findings: Finding[] = [];
  for (const relation of relations) {
    const entry = entryFor(entries, relation.root ?? relation);
    if (entry === undefined) continue;
    const obstacle = obstacleOf(relation) ?? (entry.name === "*" ? reasonToSkip(relation) : null);
    if (obstacle === null) {
      tables.push(desiredTable(relation, entry));
      findings.push(...keyFinding(relation, entry));
    } else if (entry.name === "*") skipped.set(obstacle, (skipped.get(obstacle) ?? 0) + 1);
  }
  return {
    tables,
    failures: entries.flatMap((entry) => failureOf(entry, relations)),
    findings: [
      ...findings,
      ...[...skipped].map(([obstacle, count]) => ({ message: `${count} skipped under '*': ${obstacle}.` })),
    ],
  };
}

/** What the functions in the database need to know to capture a table that comes. */
export function captureEntries({ tables }: CaptureSpec): CaptureEntry[] {
  const entryOf = (table: TableSpec): CaptureEntry => {
    const { schema, name, exclude, operations } = table;
    return { schema, name, exclude, operations, shape: rowShape(table) };
  };
  return tables?.map(entryOf) ?? [EVERY_TABLE];
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
function desiredTable({ schema, name, root }: ObservedRelation, entry: TableSpec): DesiredTable {
  const { operations } = entry;
  const shape = rowShape(entry);
  if (root === null) return { schema, name, isPartition: false, operations, shape };
  return {
    schema,
    name,
    isPartition: true,
    operations: operations.filter((one) => one === "Truncate"),
    shape,
  };
}

/** Without its key the events of a table are in one order, and carry none. */
function keyFinding({ schema, name, key, root }: ObservedRelation, entry: TableSpec): Finding[] {
  const hidden = key.filter((column) => !keepsIdentity(entry, column));
  if (hidden.length === 0 || root !== null) return [];
  const message = `${schema}.${name}: of the primary key ${hidden.join(", ")} is excluded or masked, so its events are ordered for the table as a whole.`;
  return [{ message }];
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
  if (obstacle !== null) return [{ table, reason: "TableNotSupported", message: `${table}: ${obstacle}.` }];
  const missing = missingColumns(entry, relation.columns);
  if (missing.length === 0) return [];
  const message = `${table} has no column ${missing.join(", ")}; until spec.capture.tables is corrected its events carry no columns at all.`;
  return [{ table, reason: "ColumnNotFound", message }];
}
