/** The placeholders of sql/: names of one capture, and pieces of SQL that a build shares with the functions. */
import { KEY_COLUMNS, SCHEMA_COMMENT, TABLE_SHAPE, TOLD_TABLES, USER_SCHEMA } from "./catalog-sql.ts";
import { type ContextSpec, contextExpression } from "./context.ts";
import type { CaptureNames } from "./names.ts";
import { literal } from "./quote.ts";
import { CAPTURED_AS, LEVEL, TRIGGER_COLUMNS, TRIGGER_DEFINITION, triggerValues } from "./triggers.ts";

const PLAIN_CONTEXT: ContextSpec = { query: false };

/** @param context what is kept of the circumstances of a change */
export function fillPlaceholders(
  template: string,
  names: CaptureNames,
  context: ContextSpec = PLAIN_CONTEXT,
): string {
  const values: Readonly<Record<string, string>> = {
    schema: names.schema,
    schema_name: literal(names.schemaName),
    schema_comment: literal(SCHEMA_COMMENT),
    channel: literal(names.channel),
    lock: names.wakeLock.join(", "),
    context: contextExpression(context),
    partition_context: contextExpression(
      context,
      "'partition', json_build_object('schema', tg_table_schema, 'table', tg_table_name)",
    ),
    trigger_shapes: `(values ${triggerValues(names)}) as shape ${TRIGGER_COLUMNS}`,
    captured_as: oneLine(CAPTURED_AS),
    root_context: contextExpression(
      context,
      "'root', json_build_object('schema', tg_argv[0], 'table', tg_argv[1])",
    ),
    trigger_definition: oneLine(TRIGGER_DEFINITION),
    level: oneLine(LEVEL),
    key_columns: oneLine(KEY_COLUMNS),
    user_schema: oneLine(USER_SCHEMA),
    told_tables: oneLine(TOLD_TABLES),
    table_shape: oneLine(TABLE_SHAPE),
  };
  return template.replace(/@(\w+)@/g, (text, name: string) => values[name] ?? text);
}

/** Comments of sql/ name placeholders, and end with their line. */
function oneLine(sql: string): string {
  return sql.trim().replace(/\s*\n\s*/g, " ");
}
