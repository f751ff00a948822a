/**
 * What of which rows is captured, as the argument of a table's triggers, and what goes with each of its events.
 * sql/functions_capture.sql and sql/functions_images.sql follow both.
 */
import type { Operation, TableSpec } from "../api/capture.ts";
import { shortDigest } from "./fingerprint.ts";

type Chosen = Pick<TableSpec, "name" | "columns" | "payload" | "updateColumns">;

/** Empty: every row, as it is. `strict`: the columns that must be there, all that are named. */
export function rowRule({ name, columns = {}, payload, updateColumns }: Chosen): string {
  const named = [...new Set(Object.values(columns).flat())];
  const rule = {
    ...columns,
    ...(named.length > 0 && name !== "*" ? { strict: named } : {}),
    ...(payload === undefined || payload === "Row" ? {} : { payload }),
    ...(updateColumns === undefined ? {} : { updateColumns }),
  };
  return Object.keys(rule).length === 0 ? "" : JSON.stringify(rule);
}

/** Conditions by operation. */
export function conditions({ when = {} }: Pick<TableSpec, "when">): Partial<Record<Operation, string>> {
  return {
    ...(when.insert === undefined ? {} : { Insert: when.insert }),
    ...(when.update === undefined ? {} : { Update: when.update }),
    ...(when.delete === undefined ? {} : { Delete: when.delete }),
  };
}

/**
 * The key columns of a table and the version of what its events hold, as JSON. `capture_table` in
 * sql/functions_schema.sql writes the same text.
 * @param columnsDigest of the table's columns (`COLUMNS_DIGEST`)
 */
export function aboutTable(key: readonly string[], columnsDigest: string, rule: string): string {
  return JSON.stringify({ key, version: shortDigest(columnsDigest + rule + JSON.stringify(key)) });
}

/** Columns that an entry names for a table that lacks them: by what they are missed for. */
export function missingColumns(
  { name, columns = {}, key = [], updateColumns = [] }: Chosen & Pick<TableSpec, "key">,
  present: readonly string[],
): Readonly<Record<"images" | "key" | "updates", string[]>> {
  if (name === "*") return { images: [], key: [], updates: [] };
  const { include = [], exclude = [], mask = [], hash = [] } = columns;
  const missing = (named: string[]) => [...new Set(named)].filter((column) => !present.includes(column));
  return {
    images: missing([...include, ...exclude, ...mask, ...hash]),
    key: missing(key),
    updates: missing(updateColumns),
  };
}

/** Whether different values of a column are different in events, too. */
export function keepsIdentity({ columns = {} }: Pick<TableSpec, "columns">, column: string): boolean {
  const { include, exclude = [], mask = [] } = columns;
  return include?.includes(column) !== false && !exclude.includes(column) && !mask.includes(column);
}
