/**
 * The triggers of a captured table, by level.
 *
 * Statement: an ordinary table that is captured as it is; one call for all rows of a statement.
 * EachRow: an ordinary table whose rows are chosen or changed one by one, or that replication writes to; one of an
 *   inheritance tree, where a statement on a parent changes rows of its children; and one with triggers of the
 *   user, which may write again before a statement trigger of ours is called.
 * Row: a partitioned table, whose row triggers PostgreSQL gives to every partition by itself, also to those
 *   that come, so that writes to a partition are captured in any case.
 * Partition: only TRUNCATE, which is no matter of rows, and the end of a statement.
 *
 * Names begin with what sorts before other names, because triggers are called in the order of their names: what a
 * trigger of the user writes has to come after what made it write (ADR 9). The name is the same at the levels Statement
 * and EachRow, so that one replaces the other in place; that of a partitioned table is another, as a table can be
 * attached as a partition while it still has triggers of its own.
 */
import { OPERATIONS, type Operation } from "../api/capture.ts";
import { FOREIGN_FUNCTION } from "./catalog-sql.ts";
import { shortDigest } from "./fingerprint.ts";
import type { ObservedTrigger, TableName } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { ident, literal, qualified } from "./quote.ts";

export type CaptureLevel = "Statement" | "EachRow" | "Row" | "Partition";

/** What a trigger captures; End: nothing, but it puts what was captured meanwhile in its order. */
export type TriggerKind = Operation | "End";

interface TriggerShape {
  readonly kind: TriggerKind;
  /** The events that call it, as the server prints them. */
  readonly verbs: string;
  /** Of Truncate and End, Statement stands for all. */
  readonly level: Exclude<CaptureLevel, "Partition">;
  readonly name: string;
  /** What follows the table's name, as the server prints it. */
  readonly clause: string;
}

const IN_TREE = "exists (select from pg_inherits where inhparent = pg_class.oid or inhrelid = pg_class.oid)";

/**
 * A query for the AFTER triggers of users, TRUNCATE's left out, on the table with the oid; those of a partition from
 * its parents too. The bits of tgtype: 1 row, 2 before, 4 insert, 8 delete, 16 update, 64 instead.
 */
const afterTriggersOf = (oid: string) => `select from pg_trigger join pg_proc on pg_proc.oid = tgfoid
  where tgrelid = ${oid} and tgtype::integer & 66 = 0 and tgtype::integer & 28 <> 0 and tgenabled <> 'D' and ${FOREIGN_FUNCTION}`;
const rowTriggersOf = (oid: string) => `${afterTriggersOf(oid)} and tgtype::integer & 1 = 1`;

/** Least level of `pg_class`, as SQL for a search path of pg_catalog. */
export const LEVEL = `case when relispartition then 'Partition'
  when relkind = 'p' then 'Row'
  when ${IN_TREE} or exists (${afterTriggersOf("pg_class.oid")}) then 'EachRow'
  else 'Statement' end`;

/** Whether triggers of the user may write rows of `pg_class` again before those of the statement are all told of. */
export const WRITTEN_AGAIN = `case when relkind = 'p' then exists (
    select from pg_partition_tree(case relkind when 'p' then pg_class.oid end) as tree where exists (${rowTriggersOf("tree.relid")}))
  when relispartition or not ${IN_TREE} then exists (${rowTriggersOf("pg_class.oid")})
  else false end`;

/** The table as which `pg_class` is captured, itself or the top of its partitions: `root_schema`, `root_name`. */
export const CAPTURED_AS = `
  select root_namespace.nspname as root_schema, root.relname as root_name
  from pg_class as root
  join pg_namespace as root_namespace on root_namespace.oid = root.relnamespace
  where root.oid = case when pg_class.relispartition then pg_partition_root(pg_class.oid) else pg_class.oid end`;

/**
 * The beginning of the definition that the server prints for a trigger of `pg_class` and `pg_namespace`, up to a
 * condition or the call of the function; over `shape` of `triggerValues`.
 */
export const TRIGGER_HEAD = `format('CREATE TRIGGER %I AFTER %s ON %I.%I %s ', shape.trigger_name, shape.verbs, nspname, relname, shape.clause)`;

/** Rows for `values ... as shape`. A name and whether it is for each row together tell one from the others. */
export function triggerValues(names: CaptureNames): string {
  const rows = triggerShapes(names).map(({ kind, verbs, level, name, clause }) =>
    [...[kind, verbs, level, name, clause].map(literal), String(isByRow(level))].join(", "),
  );
  return rows.map((row) => `(${row})`).join(", ");
}

export const TRIGGER_COLUMNS = "(kind, verbs, of_level, trigger_name, clause, by_row)";

export interface TriggeredTable {
  readonly table: TableName;
  /** The table as which it is captured: itself, or of a partition the top. */
  readonly root: TableName;
  readonly level: CaptureLevel;
  /** Triggers of the user may write its rows again while a statement on it is under way. */
  readonly writtenAgain: boolean;
  /** What goes with each event of the table (`aboutTable`). */
  readonly about: string;
  /** What of which rows is captured (`rowRule`). */
  readonly rule: string;
  /** SQL conditions on rows, by operation. */
  readonly when: Readonly<Partial<Record<Operation, string>>>;
  /** Settings of writers change the text of its values, and have to be fixed. */
  readonly settingsMatter: boolean;
  /** Also fires for what replication writes. */
  readonly replicated: boolean;
}

/** The triggers that a table needs for these operations. */
export function triggerKinds(
  operations: readonly Operation[],
  { level, writtenAgain }: Pick<TriggeredTable, "level" | "writtenAgain">,
): readonly TriggerKind[] {
  return writtenAgain && level !== "Statement" ? [...operations, "End"] : operations;
}

/** `create or replace trigger …` with what has to go before and after it, and the trigger's name. */
export function createTrigger(
  kind: TriggerKind,
  table: TriggeredTable,
  names: CaptureNames,
): { name: string; statements: string[] } {
  const { name, verbs, clause } = shapeFor(kind, table.level, names);
  const procedure = procedureFor(kind, table);
  const on = qualified(table.table.schema, table.table.name);
  const condition = conditionOf(kind, table);
  const values = triggerArguments(kind, table).map(literal).join(", ");
  return {
    name,
    statements: [
      ...(condition === undefined
        ? []
        : [`select ${names.schema}.check_condition_types(${literal(on)}::regclass)`]),
      `create or replace trigger ${ident(name)} after ${verbs.toLowerCase()} on ${on} ${clause.toLowerCase()} ${
        condition === undefined ? "" : `when (${condition}\n) `
      }execute function ${names.schema}.${procedure}(${values})`,
      ...(condition === undefined
        ? []
        : [`select ${names.schema}.check_condition(${literal(on)}::regclass, ${literal(name)})`]),
      ...(table.replicated ? [`alter table ${on} enable always trigger ${ident(name)}`] : []),
    ],
  };
}

/** Whether a trigger is as `createTrigger` would make it now. */
export function isCurrent(trigger: ObservedTrigger, table: TriggeredTable, names: CaptureNames): boolean {
  const { kind, tail, callSchema } = trigger;
  if (kind === null || tail === null) return false;
  if (trigger.name !== findShape(kind, table.level, names)?.name) return false;
  if (trigger.enabled !== (table.replicated ? "A" : "O") || !trigger.clonesAlike) return false;
  const values = triggerArguments(kind, table).map(printedLiteral).join(", ");
  const called = `EXECUTE FUNCTION ${callSchema}.${procedureFor(kind, table)}(${values})`;
  return conditionOf(kind, table) === undefined
    ? tail === called
    : tail.startsWith("WHEN (") && tail.endsWith(`) ${called}`);
}

/** As the server prints a text, with standard_conforming_strings on. */
function printedLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function conditionOf(kind: TriggerKind, { when }: TriggeredTable): string | undefined {
  return kind === "End" ? undefined : when[kind];
}

function procedureFor(kind: TriggerKind, { level, settingsMatter }: TriggeredTable): string {
  if (kind === "Truncate") return "capture_truncate";
  if (kind === "End") return "end_statement";
  return isByRow(level) ? "capture_row" : `capture_${kind.toLowerCase()}${settingsMatter ? "_fixed" : ""}`;
}

/** `capture_table` in sql/functions_schema.sql passes the same. */
function triggerArguments(kind: TriggerKind, table: TriggeredTable): string[] {
  const { root, level, about, rule, writtenAgain } = table;
  if (kind === "End") return [root.schema, root.name];
  if (kind === "Truncate") return level === "Partition" ? [root.schema, root.name] : [];
  if (!isByRow(level)) return [about];
  const condition = conditionOf(kind, table);
  return [
    ...[about, root.schema, root.name, rule, writtenAgain ? "again" : ""],
    ...(condition === undefined ? [] : [shortDigest(condition)]),
  ];
}

const TRANSITION_TABLES: Readonly<Partial<Record<TriggerKind, string>>> = {
  Insert: "REFERENCING NEW TABLE AS pgevents_new ",
  Update: "REFERENCING OLD TABLE AS pgevents_old NEW TABLE AS pgevents_new ",
  Delete: "REFERENCING OLD TABLE AS pgevents_old ",
};

function isByRow(level: CaptureLevel): boolean {
  return level === "EachRow" || level === "Row";
}

function shapeFor(kind: TriggerKind, level: CaptureLevel, names: CaptureNames): TriggerShape {
  const shape = findShape(kind, level, names);
  if (shape === undefined) throw new Error(`no trigger for ${kind}`);
  return shape;
}

/** Undefined: at that level there is none, as of a partition's rows. */
function findShape(kind: TriggerKind, level: CaptureLevel, names: CaptureNames): TriggerShape | undefined {
  const wanted = kind === "Truncate" || kind === "End" ? "Statement" : level;
  return triggerShapes(names).find((one) => one.kind === kind && one.level === wanted);
}

function triggerShapes({ mark }: CaptureNames): TriggerShape[] {
  return (["Statement", "EachRow", "Row"] as const).flatMap((level) =>
    [...OPERATIONS, "End" as const]
      .filter((kind) => !isByRow(level) || (kind !== "Truncate" && kind !== "End"))
      .map((kind) => ({
        kind,
        verbs: kind === "End" ? "INSERT OR DELETE OR UPDATE" : kind.toUpperCase(),
        level,
        name: `!pgevents_${level === "Row" ? "row_" : ""}${kind.toLowerCase()}${mark}`,
        clause: isByRow(level) ? "FOR EACH ROW" : `${TRANSITION_TABLES[kind] ?? ""}FOR EACH STATEMENT`,
      })),
  );
}
