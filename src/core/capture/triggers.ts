/**
 * The triggers of a captured table, by level.
 *
 * Statement: an ordinary table; one call for all rows of a statement.
 * Row: a partitioned table, whose row triggers PostgreSQL gives to every partition by itself, also to those
 *   that come, so that writes to a partition are captured in any case; and a table of an inheritance tree,
 *   where a statement on a parent changes rows of its children.
 * Partition: only TRUNCATE, which is no matter of rows.
 *
 * Names differ by level: a table can be attached as a partition while it still has triggers of its own.
 */
import { OPERATIONS, type Operation } from "../api/capture.ts";
import type { TableName } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { ident, literal, qualified } from "./quote.ts";

export type CaptureLevel = "Statement" | "Row" | "Partition";

interface TriggerShape {
  readonly operation: Operation;
  readonly level: CaptureLevel;
  readonly name: string;
  /** What follows the table's name, as the server prints it. */
  readonly clause: string;
  readonly procedure: string;
}

/** Level of `pg_class`, as SQL for a search path of pg_catalog. */
export const LEVEL = `case when relispartition then 'Partition'
  when relkind = 'p' or exists (select from pg_inherits where inhparent = pg_class.oid or inhrelid = pg_class.oid) then 'Row'
  else 'Statement' end`;

/** The table as which `pg_class` is captured, itself or the top of its partitions: `root_schema`, `root_name`, and both as `literals`. */
export const CAPTURED_AS = `
  select root_namespace.nspname as root_schema, root.relname as root_name,
    '''' || replace(root_namespace.nspname, '''', '''''') || ''', ''' || replace(root.relname, '''', '''''') || '''' as literals
  from pg_class as root
  join pg_namespace as root_namespace on root_namespace.oid = root.relnamespace
  where root.oid = case when pg_class.relispartition then pg_partition_root(pg_class.oid) else pg_class.oid end`;

/** The definition that the server prints for a trigger of `pg_class`; over `shape` of `triggerValues`, `key_columns`, `captured_as`, `captured_row` and `pg_namespace`. */
export const TRIGGER_DEFINITION = `format('CREATE TRIGGER %I AFTER %s ON %I.%I %s EXECUTE FUNCTION %I.%I(%s)',
  shape.trigger_name, upper(shape.verb), nspname, relname, shape.clause, shape.procedure_schema, shape.procedure,
  concat_ws(', ',
    case when shape.procedure = 'capture_row' or shape.level = 'Partition' then captured_as.literals end,
    case when shape.verb <> 'truncate' then '''' || replace(captured_row.shape, '''', '''''') || '''' end,
    case when shape.verb <> 'truncate' then nullif(key_columns.literals, '') end))`;

/** The shape of rows (`rowShape`) among the arguments of `pg_trigger`, on the level `level.level`. */
export const SHAPE_OF_TRIGGER = `
  select convert_from(substring(rest from 1 for greatest(position('\\x00'::bytea in rest) - 1, 0)), getdatabaseencoding()) as shape
  from (select case level.level when 'Row'
    then substring(tgargs from octet_length(root_schema::text) + octet_length(root_name::text) + 3)
    else tgargs end as rest) as arguments`;

/** Rows (verb, level, trigger name, clause, schema of the function, function) for `values ... as shape`. */
export function triggerValues(names: CaptureNames): string {
  const rows = triggerShapes(names).map(({ operation, level, name, clause, procedure }) => [
    operation.toLowerCase(),
    level,
    name,
    clause,
    names.schemaName,
    procedure,
  ]);
  return rows.map((row) => `(${row.map(literal).join(", ")})`).join(", ");
}

export const TRIGGER_COLUMNS = "(verb, level, trigger_name, clause, procedure_schema, procedure)";

export interface TriggeredTable {
  readonly table: TableName;
  /** The table as which it is captured: itself, or of a partition the top. */
  readonly root: TableName;
  readonly level: CaptureLevel;
  readonly key: readonly string[];
  /** What of a row is captured. */
  readonly shape: string;
}

/** `create or replace trigger …`, and its name. */
export function createTrigger(
  operation: Operation,
  { table, root, level, key, shape: rows }: TriggeredTable,
  names: CaptureNames,
): { name: string; statement: string } {
  const shape = triggerShapes(names).find((one) => one.operation === operation && one.level === level);
  if (shape === undefined) throw new Error(`a ${level} has no trigger for ${operation}`);
  const captured = shape.procedure === "capture_row" || level === "Partition" ? [root.schema, root.name] : [];
  const values = [...captured, ...(operation === "Truncate" ? [] : [rows, ...key])].map(literal).join(", ");
  return {
    name: shape.name,
    statement: `create or replace trigger ${ident(shape.name)} after ${operation.toLowerCase()} on ${qualified(table.schema, table.name)} ${shape.clause.toLowerCase()} execute function ${names.schema}.${shape.procedure}(${values})`,
  };
}

const TRANSITION_TABLES: Readonly<Partial<Record<Operation, string>>> = {
  Insert: "REFERENCING NEW TABLE AS pgevents_new ",
  Update: "REFERENCING OLD TABLE AS pgevents_old NEW TABLE AS pgevents_new ",
  Delete: "REFERENCING OLD TABLE AS pgevents_old ",
};

function triggerShapes({ mark }: CaptureNames): TriggerShape[] {
  const levels: CaptureLevel[] = ["Statement", "Row", "Partition"];
  return levels.flatMap((level) =>
    OPERATIONS.filter((operation) => level !== "Partition" || operation === "Truncate").map((operation) => {
      const verb = operation.toLowerCase();
      const byRow = level === "Row" && operation !== "Truncate";
      return {
        operation,
        level,
        name: `pgevents_${byRow ? "row_" : ""}${verb}${mark}`,
        clause: byRow ? "FOR EACH ROW" : `${TRANSITION_TABLES[operation] ?? ""}FOR EACH STATEMENT`,
        procedure: byRow ? "capture_row" : `capture_${verb}`,
      };
    }),
  );
}
