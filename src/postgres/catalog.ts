/**
 * Reads everything a build compares in one query that takes no lock on any captured table. Whether a
 * trigger is as a build would make it is decided there, with the server's own quoting.
 */
import type pg from "pg";
import { functionsDigest, KEY_COLUMNS, TABLES_DIGEST, USER_SCHEMA } from "../core/capture/catalog-sql.ts";
import { eventTriggerValues } from "../core/capture/event-triggers.ts";
import type { ObservedCatalog } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { literal } from "../core/capture/quote.ts";
import {
  CAPTURED_AS,
  LEVEL,
  SHAPE_OF_TRIGGER,
  TRIGGER_COLUMNS,
  TRIGGER_DEFINITION,
  triggerValues,
} from "../core/capture/triggers.ts";
import { PgEventsError } from "../core/errors.ts";

const OLDEST_SERVER = 140_000;

/** SQLSTATEs of a query over our own tables where there are none yet. */
const NOT_INSTALLED = ["42P01", "3F000"];

/**
 * Settings of the session that change how the server writes names and texts, and a search path on which
 * no function or operator of a user is: those must not run with our rights.
 */
export const CATALOG_SETTINGS = `set local search_path = pg_catalog;
  set local standard_conforming_strings = on;
  set local quote_all_identifiers = off`;

/** @throws PgEventsError PGE_SERVER_TOO_OLD, and the driver's error */
export async function readCatalog(client: pg.Client, names: CaptureNames): Promise<ObservedCatalog> {
  await refuseOldServer(client);
  try {
    return await read(client, names, installationQuery(names));
  } catch (error) {
    if (!NOT_INSTALLED.includes((error as { code?: string }).code ?? "")) throw error;
    return read(client, names, "null");
  }
}

/** By itself and first, because such a server does not even understand the query for the catalog. */
async function refuseOldServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ version: string; number: string }>(
    "select pg_catalog.current_setting('server_version') as version, pg_catalog.current_setting('server_version_num') as number",
  );
  const { version = "", number = 0 } = rows[0] ?? {};
  if (Number(number) >= OLDEST_SERVER) return;
  throw new PgEventsError(
    "PGE_SERVER_TOO_OLD",
    `PostgreSQL ${version} is too old; 14 is the oldest supported.`,
    { reason: "UnsupportedServer" },
  );
}

async function read(client: pg.Client, names: CaptureNames, installation: string): Promise<ObservedCatalog> {
  const query = `
    select json_build_object(
      'serverVersion', current_setting('server_version'),
      'readOnly', pg_is_in_recovery() or current_setting('transaction_read_only')::boolean,
      'schemaInUse', exists (select from pg_class where relnamespace = (${namespaceOf(names)}))
        or exists (select from pg_proc where pronamespace = (${namespaceOf(names)})),
      'installation', (${installation}),
      'mayMakeEventTriggers', (${MAY_MAKE_EVENT_TRIGGERS}),
      'eventTriggers', (${eventTriggersQuery(names)}),
      'ancestor', json_build_object('tables', (${ANCESTOR_TABLES}), 'eventTriggers', (${ANCESTOR_EVENT_TRIGGERS})),
      'relations', (${relationsQuery(names)})
    )::text as catalog`;
  try {
    const results: unknown = await client.query(`begin; ${CATALOG_SETTINGS}; ${query}; commit`);
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
    'schemaChangeMode', to_jsonb(installation) ->> 'schema_change_mode',
    'tablesChanged', to_jsonb(installation) ->> 'schema_change_mode' = 'Poll'
      and to_jsonb(installation) ->> 'tables_digest' is distinct from (${TABLES_DIGEST}),
    'functionsHash', case when functions_hash = split_part(functions_hash, ' ', 1) || ' ' || (${functionsDigest(names)})
      then split_part(functions_hash, ' ', 1) end,
    'migrations', (select coalesce(json_agg(migration.version order by migration.version), '[]') from ${names.schema}.migration),
    'callbacks', (select coalesce(json_agg(name order by name), '[]') from ${names.schema}.callback)
  )
  from ${names.schema}.installation`;

/** Superusers, and on RDS the role that stands for them. */
const MAY_MAKE_EVENT_TRIGGERS = `
  select rolsuper or exists (select from pg_roles where rolname = 'rds_superuser' and pg_has_role(oid, 'member'))
  from pg_roles where rolname = current_user`;

const eventTriggersQuery = (names: CaptureNames) => `
  select coalesce(json_agg(json_build_object(
    'name', evtname,
    'current', coalesce(evtenabled in ('O', 'A') and evtname = wanted.name and evtevent = wanted.event and evttags = wanted.tags, false)
  ) order by evtname), '[]')
  from pg_event_trigger
  join pg_proc on pg_proc.oid = evtfoid
  left join (values ${eventTriggerValues(names)}) as wanted (procedure, name, event, tags) on proname = wanted.procedure
  where pronamespace = (${namespaceOf(names)})`;

const ANCESTOR_TABLES = `
  select count(distinct tgrelid) from pg_trigger
  where tgfoid in (select oid from pg_proc where proname = 'pgevents_data_update_notify')
    and tgrelid not in (select pg_class.oid from pg_class join pg_namespace on pg_namespace.oid = relnamespace where not (${USER_SCHEMA}))`;

const ANCESTOR_EVENT_TRIGGERS = `
  select coalesce(json_agg(evtname order by evtname), '[]')
  from pg_event_trigger
  join pg_proc on pg_proc.oid = evtfoid
  where proname in ('pgevents_table_alter_event', 'pgevents_table_drop_event')`;

/** The server's copies of a trigger of a partitioned table: each can be disabled by itself. */
const DISABLED_CLONES = `
  select from pg_partition_tree(case relkind when 'p' then pg_class.oid end) as tree
  join pg_trigger as clone on clone.tgrelid = tree.relid
  where clone.tgname = pg_trigger.tgname and clone.tgparentid <> 0 and clone.tgenabled not in ('O', 'A')`;

const relationsQuery = (names: CaptureNames) => `
  select coalesce(json_agg(json_build_object(
    'schema', nspname,
    'name', relname,
    'kind', relkind,
    'root', case when relispartition then json_build_object('schema', root_schema, 'name', root_name) end,
    'level', level.level,
    'ofExtension', exists (
      select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'),
    'columns', (
      select coalesce(json_agg(attname order by attnum), '[]')
      from pg_attribute where attrelid = pg_class.oid and attnum > 0 and not attisdropped),
    'key', key_columns.names,
    'triggers', coalesce(managed.triggers, '[]')
  ) order by nspname, relname), '[]')
  from pg_class
  join pg_namespace on pg_namespace.oid = relnamespace
  cross join lateral (${KEY_COLUMNS}) as key_columns
  cross join lateral (select ${LEVEL} as level) as level
  cross join lateral (${CAPTURED_AS}) as captured_as
  left join lateral (
    select json_agg(json_build_object(
      'name', tgname,
      'operation', initcap(shape.verb),
      'shape', case when shape.verb <> 'truncate' then captured_row.shape end,
      'current', case when shape.verb is null then false
        else tgenabled in ('O', 'A') and pg_get_triggerdef(pg_trigger.oid) = ${TRIGGER_DEFINITION}
          and not exists (${DISABLED_CLONES}) end
    ) order by tgname) as triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    left join (values ${triggerValues(names)}) as shape ${TRIGGER_COLUMNS}
      on shape.trigger_name = tgname and shape.level = level.level
    left join lateral (${SHAPE_OF_TRIGGER}) as captured_row on shape.verb <> 'truncate'
    where tgrelid = pg_class.oid and not tgisinternal and tgparentid = 0
      and pronamespace = (${namespaceOf(names)})
  ) as managed on true
  where relkind in ('r', 'p', 'v', 'm', 'f')
    and relpersistence <> 't'
    and ${USER_SCHEMA}`;
