/**
 * Reads everything a build compares in one query that takes no lock on any captured table.
 */
import type pg from "pg";
import {
  COLUMNS_DIGEST,
  functionsDigest,
  KEY_COLUMNS,
  SETTINGS_MATTER,
  strayObjects,
  TABLES_DIGEST,
  USER_SCHEMA,
} from "../core/capture/catalog-sql.ts";
import { missingConfinement } from "../core/capture/confinement.ts";
import { eventTriggerValues } from "../core/capture/event-triggers.ts";
import { finding, refusal } from "../core/capture/findings.ts";
import type { ObservedCatalog } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { literal } from "../core/capture/quote.ts";
import {
  CAPTURED_AS,
  LEVEL,
  TRIGGER_COLUMNS,
  TRIGGER_HEAD,
  triggerValues,
  WRITTEN_AGAIN,
} from "../core/capture/triggers.ts";
import { unsafeTypes } from "../core/capture/unsafe-types.ts";
import { holdsWorkerRights } from "../core/capture/worker-rights.ts";
import { serverVersionOf } from "./connect.ts";

const OLDEST_MAJOR = 14;

/** SQLSTATEs of a query over our own tables where there are none, not all, or older ones. */
const NOT_INSTALLED = ["42P01", "3F000", "42703"];
const NOT_ALLOWED = "42501";

/**
 * Settings of the session that change how the server writes names and texts, and a search path on which
 * no function or operator of a user is: those must not run with our rights. The driver has a time limit.
 */
export const CATALOG_SETTINGS = `set local search_path = pg_catalog;
  set local statement_timeout = 0;
  set local standard_conforming_strings = on;
  set local quote_all_identifiers = off`;

export interface CatalogQuestion {
  /** Settings that the spec names. Default: none. */
  readonly settings?: readonly string[];
  /** Whose rights as a worker are looked at. Default: the role of the connection. */
  readonly workerRole?: string | undefined;
}

/**
 * One query where capture is whole, and where there is none; the version comes with the login.
 * @throws PgEventsError PGE_SERVER_TOO_OLD, and the driver's error
 */
export async function readCatalog(
  client: pg.Client,
  names: CaptureNames,
  question: CatalogQuestion = {},
): Promise<ObservedCatalog> {
  refuseOldServer(serverVersionOf(client));
  try {
    return await read(client, names, question, installationQuery(names, question));
  } catch (error) {
    const { code = "" } = error as { code?: string };
    if (code !== NOT_ALLOWED && !NOT_INSTALLED.includes(code)) throw error;
    const catalog = await read(client, names, question, "null");
    const { schema } = catalog;
    if (code === NOT_ALLOWED) return { ...catalog, schema: { ...schema, usable: false } };
    if (!schema.relations.includes("installation") || !schema.usable) return catalog;
    return { ...catalog, schema: { ...schema, damagedOwner: await damagedOwner(client, names) } };
  }
}

/** By itself and first, because such a server does not even understand the query for the catalog. */
function refuseOldServer(version: string | null): void {
  if (version === null || Number.parseInt(version, 10) >= OLDEST_MAJOR) return;
  const message = `PostgreSQL ${version} is too old; ${OLDEST_MAJOR} is the oldest supported.`;
  throw refusal(
    finding("ServerTooOld", "server", message, `Upgrade it to PostgreSQL ${OLDEST_MAJOR} or newer.`),
  );
}

/** Whose a capture is that is not whole any more. */
async function damagedOwner(client: pg.Client, names: CaptureNames): Promise<string | null> {
  const query = `select owner from ${names.schema}.installation`;
  const found = await client.query<{ owner: string }>(query).catch(() => null);
  return found?.rows[0]?.owner ?? null;
}

async function read(
  client: pg.Client,
  names: CaptureNames,
  question: CatalogQuestion,
  installation: string,
): Promise<ObservedCatalog> {
  const query = `
    select json_build_object(
      'serverVersion', current_setting('server_version'),
      'readOnly', pg_is_in_recovery() or current_setting('transaction_read_only')::boolean,
      'server', (${serverQuery(question)}),
      'schema', (${schemaQuery(names)}),
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

/** Settings of the server and the role that findings are about. */
const LOOKED_AT = [
  "max_prepared_transactions",
  "statement_timeout",
  "idle_session_timeout",
  "server_encoding",
];

/** How many more connections the role can make: what the server, the database and the role allow, less what there is. */
const FREE_CONNECTIONS = `
  select least(
    current_setting('max_connections')::integer - (
      select sum(setting::integer) from pg_settings
      where name in ('superuser_reserved_connections', 'reserved_connections')) - (select sum(numbackends) from pg_stat_database),
    case when datconnlimit >= 0 then datconnlimit - pg_stat_get_db_numbackends(pg_database.oid) end,
    case when rolconnlimit >= 0 then rolconnlimit - (select count(*) from pg_stat_activity where usesysid = pg_roles.oid) end)
  from pg_roles
  cross join pg_database
  where rolname = current_user and datname = current_database()`;

const serverQuery = ({ settings = [] }: CatalogQuestion) => `
  select json_build_object(
    'role', current_user,
    'database', current_database(),
    'inRecovery', pg_is_in_recovery(),
    'backendPid', pg_backend_pid(),
    'mayCreateSchema', has_database_privilege(current_database(), 'CREATE'),
    'freeConnections', (${FREE_CONNECTIONS}),
    'settings', (
      select coalesce(json_object_agg(name, reset_val), '{}') from pg_settings
      where name = any (array[${[...LOOKED_AT, ...settings].map(literal).join(", ")}])))`;

const schemaQuery = (names: CaptureNames) => `
  select json_build_object(
    'relations', (select coalesce(json_agg(relname), '[]') from pg_class where relnamespace = namespace.oid and relkind in ('r', 'p', 'S', 'v', 'm', 'f')),
    'functions', (select count(*) from pg_proc where pronamespace = namespace.oid),
    'outboxColumns', (
      select coalesce(json_agg(attname order by attnum), '[]') from pg_class
      join pg_attribute on attrelid = pg_class.oid
      where relnamespace = namespace.oid and relname = 'outbox' and attnum > 0 and not attisdropped),
    'usable', namespace.oid is null or has_schema_privilege(namespace.oid, 'USAGE'),
    'owned', namespace.oid is null or pg_has_role(namespace.nspowner, 'USAGE')
      and not exists (select from pg_class where relnamespace = namespace.oid and not pg_has_role(relowner, 'USAGE'))
      and not exists (select from pg_proc where pronamespace = namespace.oid and not pg_has_role(proowner, 'USAGE')),
    'owner', (select rolname from pg_roles where oid = namespace.nspowner),
    'damagedOwner', null)
  from (select 1) as one
  left join pg_namespace as namespace on namespace.nspname = ${literal(names.schemaName)}`;

const namespaceOf = (names: CaptureNames) =>
  `select oid from pg_namespace where nspname = ${literal(names.schemaName)}`;

const installationQuery = (names: CaptureNames, { workerRole }: CatalogQuestion) => `
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
    'ownerRights', not exists (${strayObjects(names)}) and not exists (${missingConfinement(names)}),
    'workerRights', ${
      workerRole === undefined
        ? holdsWorkerRights("current_user", names)
        : `coalesce((select ${holdsWorkerRights("rolname", names)} from pg_roles where rolname = ${literal(workerRole)}), false)`
    },
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
const OTHER_CLONES = `
  select from pg_partition_tree(case relkind when 'p' then pg_class.oid end) as tree
  cross join lateral (
    select clone.tgparentid, clone.tgenabled from pg_trigger as clone
    where clone.tgrelid = tree.relid and clone.tgname = pg_trigger.tgname
    offset 0 -- by the index, partition by partition: without statistics the planner would scan pg_trigger for each
  ) as clone
  where clone.tgparentid <> 0 and clone.tgenabled <> pg_trigger.tgenabled`;

/** Rights that the role lacks for making triggers on `pg_class`; row triggers of a partitioned table want those of every partition. */
const MISSING_RIGHTS = `
  select coalesce(json_agg(json_build_object('privilege', privilege, 'object', object)), '[]')
  from (
    select 'USAGE' as privilege, quote_ident(nspname) as object where not has_schema_privilege(pg_namespace.oid, 'USAGE')
    union all
    select 'TRIGGER', tree.relid::text
    from (
      select pg_class.oid::regclass as relid
      union
      select relid from pg_partition_tree(case relkind when 'p' then pg_class.oid end)
    ) as tree
    where not has_table_privilege(tree.relid, 'TRIGGER')
  ) as missing`;

const relationsQuery = (names: CaptureNames) => `
  with unsafe_type as materialized (
    select distinct on (type) type,
      json_build_object('type', format_type(castsource, null), 'function', castfunc::regprocedure, 'owner', quote_ident(rolname)) as told
    from (${unsafeTypes(names)}) as unsafe
    join pg_cast on pg_cast.oid = cast_id
    join pg_proc on pg_proc.oid = castfunc
    join pg_roles on pg_roles.oid = proowner
    order by type, cast_id
  )
  select coalesce(json_agg(json_build_object(
    'schema', nspname,
    'name', relname,
    'kind', relkind,
    'root', case when relispartition then json_build_object('schema', root_schema, 'name', root_name) end,
    'level', level.level,
    'writtenAgain', (${WRITTEN_AGAIN}),
    'unsafeCast', unsafe_type.told,
    'ofExtension', exists (
      select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'),
    'columnsDigest', (${COLUMNS_DIGEST}),
    'settingsMatter', (${SETTINGS_MATTER}),
    'columns', (
      select coalesce(json_agg(attname order by attnum), '[]')
      from pg_attribute where attrelid = pg_class.oid and attnum > 0 and not attisdropped),
    'key', primary_key.names,
    'triggers', coalesce(managed.triggers, '[]'),
    'facts', json_build_object(
      'missingRights', (${MISSING_RIGHTS}),
      'owned', pg_has_role(relowner, 'USAGE'),
      'owner', pg_get_userbyid(relowner),
      'unlogged', relpersistence = 'u',
      'rowSecurity', relrowsecurity,
      'subscribed', exists (select from pg_subscription_rel where srrelid = pg_class.oid))
  ) order by nspname, relname), '[]')
  from pg_class
  join pg_namespace on pg_namespace.oid = relnamespace
  cross join lateral (${KEY_COLUMNS}) as primary_key
  cross join lateral (select ${LEVEL} as level) as level
  cross join lateral (${CAPTURED_AS}) as captured_as
  left join lateral (
    select json_agg(json_build_object(
      'name', tgname,
      'kind', shape.kind,
      'tail', case when starts_with(definition, head) then substr(definition, length(head) + 1) end,
      'callSchema', quote_ident(${literal(names.schemaName)}),
      'enabled', tgenabled,
      'clonesAlike', not exists (${OTHER_CLONES})
    ) order by tgname) as triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    left join (values ${triggerValues(names)}) as shape ${TRIGGER_COLUMNS}
      on shape.trigger_name = tgname and shape.by_row = (tgtype::integer & 1 = 1)
    cross join lateral (
      select pg_get_triggerdef(pg_trigger.oid) as definition, case when shape.kind is not null then ${TRIGGER_HEAD} end as head
    ) as printed
    where tgrelid = pg_class.oid and not tgisinternal and tgparentid = 0
      and pronamespace = (${namespaceOf(names)})
  ) as managed on true
  left join unsafe_type on unsafe_type.type = pg_class.reltype
  where relkind in ('r', 'p', 'v', 'm', 'f')
    and relpersistence <> 't'
    and ${USER_SCHEMA}`;
