/**
 * The triggers of a captured table, by level.
 *
 * Statement: an ordinary table that is captured as it is; one call for all rows of a statement.
 * EachRow: an ordinary table whose rows are chosen or changed one by one, or that replication writes to.
 * Row: a partitioned table, whose row triggers PostgreSQL gives to every partition by itself, also to those
 *   that come, so that writes to a partition are captured in any case; and a table of an inheritance tree, where a
 *   statement on a parent changes rows of its children.
 * Partition: only TRUNCATE, which is no matter of rows.
 *
 * Names differ by level: a table can be attached as a partition while it still has triggers of its own.
 */
import { OPERATIONS, type Operation } from "../api/capture.ts";
import { shortDigest } from "./fingerprint.ts";
import type { ObservedTrigger, TableName } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { ident, literal, qualified } from "./quote.ts";

export type CaptureLevel = "Statement" | "EachRow" | "Row" | "Partition";

interface TriggerShape {
  readonly operation: Operation;
  /** Of Truncate it is that of any. */
  readonly level: CaptureLevel;
  readonly name: string;
  /** What follows the table's name, as the server prints it. */
  readonly clause: string;
}

/** Least level of `pg_class`, as SQL for a search path of pg_catalog. */
export const LEVEL = `case when relispartition then 'Partition'
  when relkind = 'p' or exists (select from pg_inherits where inhparent = pg_class.oid or inhrelid = pg_class.oid) then 'Row'
  else 'Statement' end`;

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
export const TRIGGER_HEAD = `format('CREATE TRIGGER %I AFTER %s ON %I.%I %s ', shape.trigger_name, upper(shape.verb), nspname, relname, shape.clause)`;

/** Rows (verb, level, trigger name, clause) for `values ... as shape`. */
export function triggerValues(names: CaptureNames): string {
  const rows = triggerShapes(names).map(({ operation, level, name, clause }) =>
    [operation.toLowerCase(), level, name, clause].map(literal).join(", "),
  );
  return rows.map((row) => `(${row})`).join(", ");
}

export const TRIGGER_COLUMNS = "(verb, of_level, trigger_name, clause)";

export interface TriggeredTable {
  readonly table: TableName;
  /** The table as which it is captured: itself, or of a partition the top. */
  readonly root: TableName;
  readonly level: CaptureLevel;
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

/** `create or replace trigger …` with what has to go before and after it, and the trigger's name. */
export function createTrigger(
  operation: Operation,
  table: TriggeredTable,
  names: CaptureNames,
): { name: string; statements: string[] } {
  const { name, clause } = shapeFor(operation, table.level, names);
  const procedure = procedureFor(operation, table);
  const on = qualified(table.table.schema, table.table.name);
  const condition = table.when[operation];
  const values = triggerArguments(operation, table).map(literal).join(", ");
  return {
    name,
    statements: [
      ...(condition === undefined
        ? []
        : [`select ${names.schema}.check_condition_types(${literal(on)}::regclass)`]),
      `create or replace trigger ${ident(name)} after ${operation.toLowerCase()} on ${on} ${clause.toLowerCase()} ${
        condition === undefined ? "" : `when (${condition}\n) `
      }execute function ${names.schema}.${procedure}(${values})`,
      ...(condition === undefined
        ? []
        : [`select ${names.schema}.check_condition(${literal(on)}::regclass, ${literal(name)})`]),
      // Event triggers would take it for a change of the table.
      ...(table.replicated
        ? ["set local pgevents.build = on", `alter table ${on} enable always trigger ${ident(name)}`]
        : []),
    ],
  };
}

/** Whether a trigger is as `createTrigger` would make it now. */
export function isCurrent(trigger: ObservedTrigger, table: TriggeredTable, names: CaptureNames): boolean {
  const { operation, tail, callSchema } = trigger;
  if (operation === null || tail === null) return false;
  if (trigger.name !== shapeFor(operation, table.level, names).name) return false;
  if (trigger.enabled !== (table.replicated ? "A" : "O") || !trigger.clonesAlike) return false;
  const values = triggerArguments(operation, table).map(printedLiteral).join(", ");
  const called = `EXECUTE FUNCTION ${callSchema}.${procedureFor(operation, table)}(${values})`;
  return table.when[operation] === undefined
    ? tail === called
    : tail.startsWith("WHEN (") && tail.endsWith(`) ${called}`);
}

/** As the server prints a text, with standard_conforming_strings on. */
function printedLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function procedureFor(operation: Operation, { level, settingsMatter }: TriggeredTable): string {
  if (operation === "Truncate") return "capture_truncate";
  return isByRow(level)
    ? "capture_row"
    : `capture_${operation.toLowerCase()}${settingsMatter ? "_fixed" : ""}`;
}

function triggerArguments(
  operation: Operation,
  { root, level, about, rule, when }: TriggeredTable,
): string[] {
  if (operation === "Truncate") return level === "Partition" ? [root.schema, root.name] : [];
  if (!isByRow(level)) return [about];
  const condition = when[operation];
  return [about, root.schema, root.name, rule, ...(condition === undefined ? [] : [shortDigest(condition)])];
}

function isByRow(level: CaptureLevel): boolean {
  return level === "EachRow" || level === "Row";
}

const TRANSITION_TABLES: Readonly<Partial<Record<Operation, string>>> = {
  Insert: "REFERENCING NEW TABLE AS pgevents_new ",
  Update: "REFERENCING OLD TABLE AS pgevents_old NEW TABLE AS pgevents_new ",
  Delete: "REFERENCING OLD TABLE AS pgevents_old ",
};

function shapeFor(operation: Operation, level: CaptureLevel, names: CaptureNames): TriggerShape {
  const wanted = operation === "Truncate" ? "Statement" : level;
  const shape = triggerShapes(names).find((one) => one.operation === operation && one.level === wanted);
  if (shape === undefined) throw new Error(`no trigger for ${operation}`);
  return shape;
}

function triggerShapes({ mark }: CaptureNames): TriggerShape[] {
  const prefixes = { Statement: "", EachRow: "each_", Row: "row_" };
  return (["Statement", "EachRow", "Row"] as const).flatMap((level) =>
    OPERATIONS.filter((operation) => !isByRow(level) || operation !== "Truncate").map((operation) => {
      const verb = operation.toLowerCase();
      return {
        operation,
        level,
        name: `pgevents_${prefixes[level]}${verb}${mark}`,
        clause: isByRow(level) ? "FOR EACH ROW" : `${TRANSITION_TABLES[operation] ?? ""}FOR EACH STATEMENT`,
      };
    }),
  );
}
