/**
 * Pieces of SQL that a build's look at the catalog and the functions in the database share, so that both
 * mean the same. For a search path of pg_catalog.
 */
import { ownedBySuperuser } from "./confinement.ts";
import type { CaptureNames } from "./names.ts";
import { literal } from "./quote.ts";

/** What marks a schema as ours, so that no capture covers another one's outbox. */
export const SCHEMA_COMMENT = "pg-events capture schema";

/** Columns of the primary key of `pg_class` as a JSON array: `names`, and the same as compact text, `key_json`. */
export const KEY_COLUMNS = `
  select
    coalesce(json_agg(attname order by position), '[]') as names,
    '[' || coalesce(string_agg(to_json(attname)::text, ',' order by position), '') || ']' as key_json
  from pg_index
  cross join unnest(indkey) with ordinality as key_column (number, position)
  join pg_attribute on attrelid = indrelid and attnum = key_column.number
  where indrelid = pg_class.oid and indisprimary and position <= indnkeyatts`; // the rest are INCLUDE columns

/** A query for a digest of the columns of `pg_class`: names, types and what may be null. */
export const COLUMNS_DIGEST = `
  select md5(coalesce(string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull), ',' order by attnum), ''))
  from pg_attribute where attrelid = pg_class.oid and attnum > 0 and not attisdropped`;

/** Types whose values in JSON no setting changes but TimeZone; enums are among them as well, and arrays of all these. */
const STEADY_TYPES =
  "bool,int2,int4,int8,numeric,oid,text,varchar,bpchar,char,name,uuid,json,jsonb,date,time,timetz,timestamp,timestamptz,inet,cidr,macaddr,bit,varbit,tsvector";

/** Whether `pg_class` has a column whose text settings of the writer change; true in doubt. */
export const SETTINGS_MATTER = `exists (
  select from pg_attribute
  join pg_type as column_type on column_type.oid = atttypid
  left join pg_type as element on column_type.typcategory = 'A' and element.oid = column_type.typelem
  where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    and coalesce(element.typtype, column_type.typtype) <> 'e'
    and not (coalesce(element.typnamespace, column_type.typnamespace) = 'pg_catalog'::regnamespace
      and coalesce(element.typname, column_type.typname)::text = any ('{${STEADY_TYPES}}')))`;

/** Schemas of users: neither PostgreSQL's nor those of a capture. */
export const USER_SCHEMA = `nspname <> 'information_schema' and nspname !~ '^pg_'
  and coalesce(obj_description(pg_namespace.oid, 'pg_namespace'), '') <> ${literal(SCHEMA_COMMENT)}`;

/** Whether `pg_proc` is neither PostgreSQL's nor that of a capture. */
export const FOREIGN_FUNCTION = `pronamespace <> 'pg_catalog'::regnamespace
  and coalesce(obj_description(pronamespace, 'pg_namespace'), '') <> ${literal(SCHEMA_COMMENT)}`;

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

/**
 * A query for what in the capture schema is not, or not wholly, its owner's any more, by the owner of the outbox:
 * functions run with their owner's rights, and a write fails when those are gone. Rows (statement) put it right.
 */
export function strayObjects(names: CaptureNames): string {
  const { schemaName } = names;
  const namespace = `(select oid from pg_catalog.pg_namespace where nspname = ${literal(schemaName)})`;
  const held = (check: string, privileges: readonly string[]) =>
    privileges.map((privilege) => `pg_catalog.${check}(owner, object, '${privilege}')`).join(" and ");
  return `select pg_catalog.format('alter %s %s owner to %I', kind, name, owner_name) as reown,
      pg_catalog.format('grant all on %s %s to %I', kind, name, owner_name) as regrant
    from (
      select case relkind when 'S' then 'sequence' else 'table' end as kind, oid as object, oid::regclass::text as name, relowner as owned_by
      from pg_catalog.pg_class where relnamespace = ${namespace} and relkind in ('r', 'p', 'v', 'S')
      union all
      select 'function', oid, oid::regprocedure::text, proowner
      from pg_catalog.pg_proc
      where pronamespace = ${namespace} and not (prorettype = 'pg_catalog.trigger'::pg_catalog.regtype and ${ownedBySuperuser(names)})
    ) as objects
    cross join (
      select relowner as owner, rolname as owner_name
      from pg_catalog.pg_class join pg_catalog.pg_roles on pg_roles.oid = relowner
      where relnamespace = ${namespace} and relname = 'outbox'
    ) as wanted
    where owned_by <> owner or not case kind
      when 'function' then ${held("has_function_privilege", ["EXECUTE"])}
      when 'sequence' then ${held("has_sequence_privilege", ["USAGE", "SELECT", "UPDATE"])}
      else ${held("has_table_privilege", ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"])} end`;
}
