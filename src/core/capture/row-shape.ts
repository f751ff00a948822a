/** What of a row is captured, as the argument of a trigger; sql/functions_capture.sql (shape_row) follows it. */
import type { TableSpec } from "../api/capture.ts";

/** Empty: the whole row. `strict`: each column that is named must be there. */
export function rowShape({ name, columns }: Pick<TableSpec, "name" | "columns">): string {
  if (columns === undefined || Object.keys(columns).length === 0) return "";
  return JSON.stringify(name === "*" ? columns : { ...columns, strict: true });
}

/** Columns that an entry names for a table that lacks them. */
export function missingColumns(
  { name, columns = {} }: Pick<TableSpec, "name" | "columns">,
  present: readonly string[],
): string[] {
  if (name === "*") return [];
  const { include = [], exclude = [], mask = [], hash = [] } = columns;
  const named = new Set([...include, ...exclude, ...mask, ...hash]);
  return [...named].filter((column) => !present.includes(column));
}

/** Whether different values of a column are different in events, too. */
export function keepsIdentity({ columns = {} }: Pick<TableSpec, "columns">, column: string): boolean {
  const { include, exclude = [], mask = [] } = columns;
  return include?.includes(column) !== false && !exclude.includes(column) && !mask.includes(column);
}
