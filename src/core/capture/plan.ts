/** Which tables the spec asks for, among the relations that exist. Pure. */
import { type CaptureSpec, OPERATIONS, type TableSpec } from "../api/capture.ts";
import { type Finding, finding } from "./findings.ts";
import {
  type CaptureEntry,
  type DesiredTable,
  type ObservedCatalog,
  type ObservedRelation,
  type SchemaChangeMode,
  type TableName,
  tableText,
  type UnsafeCast,
} from "./model.ts";
import { aboutTable, conditions, keepsIdentity, missingColumns, rowRule } from "./row-rule.ts";

export interface CapturePlan {
  readonly tables: readonly DesiredTable[];
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
    if (relation.unsafeCast !== null) {
      if (entry.name === "*") findings.push(castFinding("UnsafeCastSkipped", relation, relation.unsafeCast));
      continue;
    }
    const obstacle = obstacleOf(relation) ?? (entry.name === "*" ? reasonToSkip(relation) : null);
    if (obstacle === null) {
      tables.push(desiredTable(relation, entry, spec.replicated));
      findings.push(...keyFinding(relation, entry));
    } else if (entry.name === "*") skipped.set(obstacle, (skipped.get(obstacle) ?? 0) + 1);
  }
  return {
    tables,
    findings: [
      ...entries.flatMap((entry) => failureOf(entry, relations)),
      ...findings,
      ...[...skipped].map(([obstacle, count]) =>
        finding("Skipped", "tables", `${count} skipped under '*': ${obstacle}.`),
      ),
    ],
  };
}

/** What the functions in the database need to know to capture a table that comes. */
export function captureEntries({ tables, replicated }: CaptureSpec): CaptureEntry[] {
  const entryOf = (schema: string | null, table: Omit<TableSpec, "schema">): CaptureEntry => {
    const { name, exclude, operations, key } = table;
    const rule = rowRule(table);
    const when = conditions(table);
    return {
      schema,
      name,
      exclude,
      operations,
      rule,
      when,
      key,
      byRow: isByRow(rule, when, replicated),
      replicated,
    };
  };
  const every = [entryOf(null, { name: "*", operations: [...OPERATIONS] })];
  return tables?.map((table) => entryOf(table.schema, table)) ?? every;
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
function desiredTable(relation: ObservedRelation, entry: TableSpec, replicated: boolean): DesiredTable {
  const { schema, name, level, columnsDigest, settingsMatter, writtenAgain } = relation;
  const rule = rowRule(entry);
  const when = conditions(entry);
  const isPartition = relation.root !== null;
  return {
    schema,
    name,
    isPartition,
    root: relation.root ?? { schema, name },
    writtenAgain,
    level: level === "Statement" && isByRow(rule, when, replicated) ? "EachRow" : level,
    operations: entry.operations.filter((one) => !isPartition || one === "Truncate"),
    about: aboutTable(entry.key ?? relation.key, columnsDigest, rule),
    rule,
    when,
    settingsMatter,
    replicated,
  };
}

/** Rows that are chosen or changed one by one need triggers that are called for each; and replication calls no others. */
function isByRow(rule: string, when: CaptureEntry["when"], replicated: boolean): boolean {
  return rule !== "" || Object.keys(when).length > 0 || replicated;
}

/** Without its key the events of a table are in one order, and carry none. */
function keyFinding({ schema, name, key, root }: ObservedRelation, entry: TableSpec): Finding[] {
  const hidden = (entry.key ?? key).filter((column) => !keepsIdentity(entry, column));
  if (hidden.length === 0 || root !== null) return [];
  const message = `${schema}.${name}: of the key ${hidden.join(", ")} is excluded or masked, so its events are ordered for the table as a whole.`;
  return [finding("KeyHidden", tableText({ schema, name }), message)];
}

/** An entry with the table's name wins over '*'. */
export function entryFor(entries: readonly TableSpec[], table: TableName): TableSpec | undefined {
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

function castFinding(
  code: "UnsafeCast" | "UnsafeCastSkipped",
  { schema, name }: ObservedRelation,
  { type, function: call, owner }: UnsafeCast,
): Finding {
  const table = tableText({ schema, name });
  const message = `${table} is not captured: values of type ${type} become JSON by the function ${call} of role ${owner}, which would run with the rights of pg-events.`;
  const remedy = `drop cast (${type} as json); or, when the function does nothing that it should not, give it to the owner of the capture schema: alter function ${call} owner to …;`;
  return finding(code, table, message, remedy);
}

function failureOf(entry: TableSpec, relations: readonly ObservedRelation[]): Finding[] {
  if (entry.name === "*") return [];
  const table = tableText(entry);
  const relation = relations.find(({ schema, name }) => schema === entry.schema && name === entry.name);
  if (relation === undefined) {
    const message = `Table ${table} does not exist; it is captured as soon as it does.`;
    return [finding("TableNotFound", table, message)];
  }
  const { root } = relation;
  const obstacle =
    root === null
      ? obstacleOf(relation)
      : `a partition is captured with the table it is a part of; name ${tableText(root)}`;
  if (obstacle !== null) return [finding("TableNotSupported", table, `${table}: ${obstacle}.`)];
  if (relation.unsafeCast !== null) return [castFinding("UnsafeCast", relation, relation.unsafeCast)];
  const { images, key, updates } = missingColumns(entry, relation.columns);
  const missing = [...new Set([...images, ...key, ...updates])];
  if (missing.length === 0) return [];
  const effects = [
    ...(images.length > 0 ? ["its events carry no columns at all"] : []),
    ...(images.length === 0 && key.length > 0 ? ["its events carry no key"] : []),
    ...(updates.length > 0 ? ["every update is captured"] : []),
  ];
  const message = `${table} has no column ${missing.join(", ")}; until spec.capture.tables is corrected ${effects.join(", and ")}.`;
  return [finding("ColumnNotFound", table, message)];
}
