/**
 * Reads columns of tables, and the types that they are made of, without a lock on any of them. The settings are
 * those of catalog.ts: no function of a user runs, and names of types come with their schemas.
 */
import type pg from "pg";
import type { TableName } from "../core/capture/model.ts";
import type { ObservedColumns } from "../core/types/model.ts";
import { CATALOG_SETTINGS } from "./catalog.ts";

export async function readColumns(client: pg.Client, tables: readonly TableName[]): Promise<ObservedColumns> {
  await client.query("begin read only");
  try {
    await client.query(CATALOG_SETTINGS);
    const wanted = tables.map(({ schema, name }) => ({ schema, name }));
    const { rows } = await client.query<{ columns: string }>(COLUMNS, [JSON.stringify(wanted)]);
    await client.query("commit");
    return JSON.parse(rows[0]?.columns ?? "null") as ObservedColumns;
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw error;
  }
}

/** What `row_to_json` looks for: a cast by a function, of a type that initdb did not make. */
const CAST_TO_JSON = `pg_type.oid >= 16384 and exists (
  select from pg_cast where castsource = pg_type.oid and casttarget = 'json'::regtype and castmethod = 'f')`;

/** From PostgreSQL 18 on attnotnull may stand for a constraint that was not validated: rows of before may hold null. */
const NOT_NULL = `attnotnull and not exists (
  select from pg_constraint
  where conrelid = attrelid and contype = 'n' and not convalidated and attnum = any (conkey))`;

const COLUMN = `'name', attname, 'type', atttypid::text, 'typmod', atttypmod, 'typeText', format_type(atttypid, atttypmod)`;

const COLUMNS = `
  with recursive wanted as (
    select relation.oid, nspname, relname
    from jsonb_to_recordset($1::jsonb) as given (schema name, name name)
    join pg_namespace on nspname = given.schema
    join pg_class as relation on relnamespace = pg_namespace.oid and relname = given.name
  ),
  used (id) as (
    select atttypid
    from wanted
    join pg_attribute on attrelid = wanted.oid and attnum > 0 and not attisdropped
    union
    select part.id
    from used
    join pg_type on pg_type.oid = used.id
    cross join lateral (
      select typbasetype where typtype = 'd'
      union all
      select typelem where typsubscript = 'array_subscript_handler'::regproc
      union all
      select atttypid from pg_attribute where typtype = 'c' and attrelid = typrelid and attnum > 0 and not attisdropped
    ) as part (id)
  )
  select json_build_object(
    'tables', (
      select coalesce(json_agg(json_build_object(
        'schema', nspname,
        'name', relname,
        'comment', obj_description(wanted.oid, 'pg_class'),
        'columns', (
          select coalesce(json_agg(json_build_object(
            ${COLUMN},
            'notNull', ${NOT_NULL},
            'virtual', attgenerated = 'v',
            'comment', col_description(attrelid, attnum)
          ) order by attnum), '[]')
          from pg_attribute
          where attrelid = wanted.oid and attnum > 0 and not attisdropped)
      ) order by nspname, relname), '[]')
      from wanted),
    'types', (
      select coalesce(json_agg(json_build_object(
        'id', pg_type.oid::text,
        'schema', nspname,
        'name', typname,
        'base', case typtype when 'd' then json_build_object('type', typbasetype::text, 'typmod', typtypmod) end,
        'element', case when typsubscript = 'array_subscript_handler'::regproc then typelem::text end,
        'labels', case typtype when 'e' then (
          select coalesce(json_agg(enumlabel order by enumsortorder), '[]') from pg_enum where enumtypid = pg_type.oid) end,
        'attributes', case typtype when 'c' then (
          select coalesce(json_agg(json_build_object(${COLUMN}) order by attnum), '[]')
          from pg_attribute where attrelid = typrelid and attnum > 0 and not attisdropped) end,
        'ofTable', exists (select from pg_class where pg_class.oid = typrelid and relkind <> 'c'),
        'castToJson', ${CAST_TO_JSON},
        'extension', (
          select extname from pg_depend join pg_extension on pg_extension.oid = refobjid
          where classid = 'pg_type'::regclass and objid = pg_type.oid and deptype = 'e' and refclassid = 'pg_extension'::regclass)
      ) order by nspname, typname), '[]')
      from used
      join pg_type on pg_type.oid = used.id
      join pg_namespace on pg_namespace.oid = typnamespace)
  )::text as columns`;
