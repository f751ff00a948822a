/**
 * Reads everything a build compares in one query that takes no lock on any captured table. Whether a
 * trigger is as a build would make it is decided there, with the server's own quoting.
 */
import type pg from "pg";
import { functionsDigest, SCHEMA_COMMENT, triggerName } from "../core/capture/ddl.ts";
import type { ObservedCatalog } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { literal } from "../core/capture/quote.ts";

/** SQLSTATEs of a query over our own tables where there are none yet. */
const NOT_INSTALLED = ["42P01", "3F000"];

/**
 * Settings of the session that change how the server writes names and texts, and a search path on which
 * no function or operator of a user is: those must not run with our rights.
 */
const SETTINGS = `set local search_path = pg_catalog;
  set local standard_conforming_strings = on;
  set local quote_all_identifiers = off`;

/** @throws the driver's error */
export async function readCatalog(client: pg.Client, names: CaptureNames): Promise<ObservedCatalog> {
  try {
    return await read(client, names, installationQuery(names));
  } catch (error) {
    if (!NOT_INSTALLED.includes((error as { code?: string }).code ?? "")) throw error;
    return read(client, names, "null");
  }
}

async function read(client: pg.Client, names: CaptureNames, installation: string): Promise<ObservedCatalog> {
  const query = `
    select json_build_object(
      'serverVersion', current_setting('server_version'),
      'serverVersionNumber', current_setting('server_version_num')::integer,
      'readOnly', pg_is_in_recovery() or current_setting('transaction_read_only')::boolean,
      'schemaInUse', exists (select from pg_class where relnamespace = (${namespaceOf(names)}))
        or exists (select from pg_proc where pronamespace = (${namespaceOf(names)})),
      'installation', (${installation}),
      'relations', (${relationsQuery(names)})
    )::text as catalog`;
  try {
    const results: unknown = await client.query(`begin; ${SETTINGS}; ${query}; commit`);
    const answer = (results as pg.QueryResult<{ catalog: string }>[]).find(({ rows }) => rows.length > 0);
    return JSON.parse(answer?.rows[0]?.catalog ?? "null") as ObservedCatalog;
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw error;
  }
}

const namespaceOf = (names: CaptureNames) =>
  `select oid from pg_namespace where nspname = ${literal(names.schemaName)}`;

const installationQuery = (names: CaptureNames) => `
  select json_build_object(
    'installationId', installation_id,
    'owner', owner,
    'epoch', epoch::text,
    'specHash', spec_hash,
    'version', version,
    'functionsHash', case when functions_hash = split_part(functions_hash, ' ', 1) || ' ' || (${functionsDigest(names)})
      then split_part(functions_hash, ' ', 1) end,
    'migrations', (select coalesce(json_agg(migration.version order by migration.version), '[]') from ${names.schema}.migration),
    'callbacks', (select coalesce(json_agg(name order by name), '[]') from ${names.schema}.callback)
  )
  from ${names.schema}.installation`;

const relationsQuery = (names: CaptureNames) => `
  select coalesce(json_agg(json_build_object(
    'schema', nspname,
    'name', relname,
    'kind', relkind,
    'isPartition', relispartition,
    'ofExtension', exists (
      select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'),
    'key', key_columns.names,
    'triggers', coalesce(managed.triggers, '[]')
  ) order by nspname, relname), '[]')
  from pg_class
  join pg_namespace on pg_namespace.oid = relnamespace
  cross join lateral (
    select
      coalesce(json_agg(attname order by position), '[]') as names,
      coalesce(string_agg('''' || replace(attname, '''', '''''') || '''', ', ' order by position), '') as literals
    from pg_index
    cross join unnest(indkey) with ordinality as key_column (number, position)
    join pg_attribute on attrelid = indrelid and attnum = key_column.number
    where indrelid = pg_class.oid and indisprimary and position <= indnkeyatts -- the rest are INCLUDE columns
  ) as key_columns
  left join lateral (
    select json_agg(json_build_object(
      'name', tgname,
      'operation', initcap(operation.verb),
      'current', tgenabled in ('O', 'A') and tgname = operation.trigger_name and pg_get_triggerdef(pg_trigger.oid) = format(
        'CREATE TRIGGER %I AFTER %s ON %I.%I %sFOR EACH STATEMENT EXECUTE FUNCTION %I.%I(%s)',
        tgname, upper(operation.verb), nspname, relname, operation.transition,
        ${literal(names.schemaName)}, 'capture_' || operation.verb,
        case when operation.verb = 'truncate' then '' else key_columns.literals end)
    ) order by tgname) as triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    left join (values ${OPERATION_VALUES(names)}) as operation (verb, trigger_name, transition)
      on proname = 'capture_' || operation.verb
    where tgrelid = pg_class.oid and not tgisinternal
      and pronamespace = (${namespaceOf(names)})
  ) as managed on true
  where relkind in ('r', 'p', 'v', 'm', 'f')
    and relpersistence <> 't'
    and nspname <> 'information_schema' and nspname !~ '^pg_'
    and coalesce(obj_description(pg_namespace.oid, 'pg_namespace'), '') <> ${literal(SCHEMA_COMMENT)}`;

const OPERATION_VALUES = (names: CaptureNames) =>
  [
    ["insert", triggerName("Insert", names), "REFERENCING NEW TABLE AS pgevents_new "],
    [
      "update",
      triggerName("Update", names),
      "REFERENCING OLD TABLE AS pgevents_old NEW TABLE AS pgevents_new ",
    ],
    ["delete", triggerName("Delete", names), "REFERENCING OLD TABLE AS pgevents_old "],
    ["truncate", triggerName("Truncate", names), ""],
  ]
    .map((row) => `(${row.map((text) => literal(text ?? "")).join(", ")})`)
    .join(", ");
