/** The placeholders of sql/: names of one capture, and pieces of SQL that a build shares with the functions. */

import type { CaptureSpec } from "../api/capture.ts";
import { SEGMENTS } from "./backlog.ts";
import {
  COLUMNS_DIGEST,
  FOREIGN_FUNCTION,
  KEY_COLUMNS,
  SCHEMA_COMMENT,
  SETTINGS_MATTER,
  TABLE_SHAPE,
  TOLD_TABLES,
  USER_SCHEMA,
} from "./catalog-sql.ts";
import { contextExpression } from "./context.ts";
import type { CaptureNames } from "./names.ts";
import { literal } from "./quote.ts";
import {
  CAPTURED_AS,
  LEVEL,
  TRIGGER_COLUMNS,
  TRIGGER_HEAD,
  triggerValues,
  WRITTEN_AGAIN,
} from "./triggers.ts";
import { unsafeTypes } from "./unsafe-types.ts";

/** What of the spec is written into the functions. */
export type FunctionOptions = Pick<CaptureSpec, "context" | "onError">;

/** Rows of a statement beyond which packing pays: to plan that takes as long as to write some 100 of them. */
const SINGLE_ROWS = 256;
/** Bytes of a value above which its event is not packed with others. */
const LARGE_VALUE_BYTES = 2048;
/** What the values of a row of a packed event may come to, so less for each where there are many: reading 128 at once is fine. */
const LARGE_ROW_BYTES = 8192;

const PLAIN: FunctionOptions = { context: { query: false }, onError: "Abort" };

export function fillPlaceholders(
  template: string,
  names: CaptureNames,
  { context, onError }: FunctionOptions = PLAIN,
): string {
  const values: Readonly<Record<string, string>> = {
    schema: names.schema,
    schema_name: literal(names.schemaName),
    schema_comment: literal(SCHEMA_COMMENT),
    segment_sequence: `${literal(`${names.schema}.outbox_segment`)}::regclass`,
    channel: literal(names.channel),
    lock: names.wakeLock.join(", "),
    context: contextExpression(context),
    partition_context: contextExpression(
      context,
      "'partition', json_build_object('schema', tg_table_schema, 'table', tg_table_name)",
    ),
    root_context: contextExpression(
      context,
      "'root', json_build_object('schema', tg_argv[0], 'table', tg_argv[1])",
    ),
    fixed_settings: FIXED_SETTINGS,
    single_rows: String(SINGLE_ROWS),
    large_value: String(LARGE_VALUE_BYTES),
    large_row: String(LARGE_ROW_BYTES),
    pack_rest: packRest(names, context),
    ...onErrorValues(names, onError),
    trigger_shapes: `(values ${triggerValues(names)}) as shape ${TRIGGER_COLUMNS}`,
    trigger_head: oneLine(TRIGGER_HEAD),
    captured_as: oneLine(CAPTURED_AS),
    level: oneLine(LEVEL),
    written_again: oneLine(WRITTEN_AGAIN),
    order_prefix: literal(`${names.channel}.order_`),
    key_columns: oneLine(KEY_COLUMNS),
    columns_digest: oneLine(COLUMNS_DIGEST),
    settings_matter: oneLine(SETTINGS_MATTER),
    user_schema: oneLine(USER_SCHEMA),
    foreign_function: oneLine(FOREIGN_FUNCTION),
    unsafe_types: oneLine(unsafeTypes(names)),
    told_tables: oneLine(TOLD_TABLES),
    table_shape: oneLine(TABLE_SHAPE),
  };
  return template
    .replace(/@each_variant@([\s\S]*?)@end_variant@/g, (_text, part: string) => forEachVariant(part))
    .replace(/@each_segment@([\s\S]*?)@end@/g, (_text, part: string) => forEachSegment(part))
    .replace(/@(\w+)@/g, (text, name: string) => values[name] ?? text);
}

/** What else of the writer's settings changes the text of values: of floats, bytea, intervals, ranges and reg* types. */
const FIXED_SETTINGS =
  "set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = 1 set quote_all_identifiers = off";

/** Each setting costs a call about a microsecond, so tables without such types go without. */
function forEachVariant(part: string): string {
  const variant = (suffix: string, settings: string) =>
    part.replaceAll("@variant@", suffix).replaceAll("@more_settings@", settings);
  return variant("", "") + variant("_fixed", FIXED_SETTINGS);
}

function forEachSegment(part: string): string {
  return Array.from({ length: SEGMENTS }, (_, number) => part.replaceAll("@segment@", String(number))).join(
    "",
  );
}

/**
 * The end of a capture function's block, by what was to be captured. With Skip the write goes on, and is counted as
 * not captured. What another attempt of the transaction may put right is raised on; a statement that is cancelled,
 * or takes too long, `others` does not mean.
 */
function onErrorValues({ schema }: CaptureNames, onError: FunctionOptions["onError"]) {
  const handler = (changes: string) =>
    onError === "Abort"
      ? ""
      : `exception
  when transaction_rollback then raise;
  when others then
    begin
      perform ${schema}.skip_changes(${changes}, tg_table_schema || '.' || tg_table_name, sqlerrm, sqlstate);
    exception when others then
      raise warning 'pg-events: a change of %.% is not captured, and not counted: % (SQLSTATE %)', tg_table_schema, tg_table_name, sqlerrm, sqlstate;
    end;
    return null;`;
  return {
    on_error: handler("1"),
    on_error_new: handler("(select count(*) from pgevents_new)"),
    on_error_old: handler("(select count(*) from pgevents_old)"),
  };
}

/**
 * Writes what is left of a statement when the last command has written as many rows of the outbox as there are to be for
 * one event each. More memory than writers have for that moment: `packing_memory`.
 */
function packRest({ schema }: CaptureNames, context: FunctionOptions["context"]): string {
  return `get diagnostics written = row_count;
  if written = ${SINGLE_ROWS} then
    memory := current_setting('work_mem');
    perform set_config('work_mem', ${schema}.packing_memory(memory), true);
    execute ${schema}.packing_statement(tg_relid, left(tg_op, 1), open_segment)
    using tg_table_schema, tg_table_name, tg_argv[0], ${contextExpression(context)};
    perform set_config('work_mem', memory, true);
  end if;`;
}

/** Comments of sql/ name placeholders, and end with their line. */
function oneLine(sql: string): string {
  return sql.trim().replace(/\s*\n\s*/g, " ");
}
