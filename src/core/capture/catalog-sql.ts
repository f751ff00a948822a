/**
 * Pieces of SQL that a build's look at the catalog and the functions in the database share, so that both
 * mean the same. For a search path of pg_catalog.
 */
import type { CaptureNames } from "./names.ts";
import { literal } from "./quote.ts";

/** What marks a schema as ours, so that no capture covers another one's outbox. */
export const SCHEMA_COMMENT = "pg-events capture schema";

/** Columns of the primary key of `pg_class`: as JSON array `names`, and as `literals` for a trigger's arguments. */
export const KEY_COLUMNS = `
  select
    coalesce(json_agg(attname order by position), '[]') as names,
    coalesce(string_agg('''' || replace(attname, '''', '''''') || '''', ', ' order by position), '') as literals
  from pg_index
  cross join unnest(indkey) with ordinality as key_column (number, position)
  join pg_attribute on attrelid = indrelid and attnum = key_column.number
  where indrelid = pg_class.oid and indisprimary and position <= indnkeyatts`; // the rest are INCLUDE columns

/** Schemas of users: neither PostgreSQL's nor those of a capture. */
export const USER_SCHEMA = `nspname <> 'information_schema' and nspname !~ '^pg_'
  and coalesce(obj_description(pg_namespace.oid, 'pg_namespace'), '') <> ${literal(SCHEMA_COMMENT)}`;

/** The tables whose changes are told of, among `relation` and `pg_namespace`. */
export const TOLD_TABLES = `relation.relkind in ('r', 'p') and relation.relpersistence <> 't' and ${USER_SCHEMA}`;

/**
 * What a change of a table changes: columns and constraints of `relation`, as jsonb. NOT NULL stands with the
 * column only: it is a constraint as well from PostgreSQL 18 on, and an upgrade of the server must not look
 * like a change of every table.
 */
export const TABLE_SHAPE = `(
  select jsonb_build_object(
    'columns', (
      select coalesce(jsonb_agg(jsonb_build_array(attnum, attname, format_type(atttypid, atttypmod), attnotnull, atthasdef, attidentity, attgenerated) order by attnum), '[]')
      from pg_attribute where attrelid = relation.oid and attnum > 0 and not attisdropped),
    'constraints', (
      select coalesce(jsonb_agg(jsonb_build_array(conname, contype, conkey) order by conname), '[]')
      from pg_constraint where conrelid = relation.oid and contype not in ('t', 'n'))))`;

/** A query for the digest of all tables that are told of. */
export const TABLES_DIGEST = `
  select md5(coalesce(string_agg(concat_ws(' ', relation.oid, nspname, relname, ${TABLE_SHAPE}), ',' order by relation.oid), ''))
  from pg_class as relation
  join pg_namespace on pg_namespace.oid = relnamespace
  where ${TOLD_TABLES}`;

/** A query for a digest of our functions as the server has them: it changes when somebody replaces one. */
export function functionsDigest(names: CaptureNames): string {
  return `select coalesce(md5(string_agg(proname || prosrc || prosecdef || coalesce(proconfig::text, ''), ',' order by proname)), '')
    from pg_catalog.pg_proc where pronamespace = (select oid from pg_catalog.pg_namespace where nspname = ${literal(names.schemaName)})`;
}
