/** Per-table DDL and the statements of a build, as text. Every name passes `ident`, every text `literal`. */
import type { Operation } from "../api/capture.ts";
import type { CaptureAction } from "./diff.ts";
import { type CaptureNames, fillPlaceholders } from "./names.ts";
import { ident, literal, qualified } from "./quote.ts";

/** The texts of sql/, by version, and the function files joined. */
export interface SqlSources {
  readonly migrations: ReadonlyMap<number, string>;
  readonly functions: string;
}

/** What marks a schema as ours, so that no capture covers another one's outbox. */
export const SCHEMA_COMMENT = "pg-events capture schema";

const TRANSITION_TABLES: Record<Operation, string> = {
  Insert: " referencing new table as pgevents_new",
  Update: " referencing old table as pgevents_old new table as pgevents_new",
  Delete: " referencing old table as pgevents_old",
  Truncate: "",
};

/** The statements of an action, to run in one transaction. */
export function statementsFor(action: CaptureAction, names: CaptureNames, sources: SqlSources): string[] {
  const { schema } = names;
  switch (action.kind) {
    case "InstallSchema":
      return [
        `create schema if not exists ${schema}`,
        `comment on schema ${schema} is ${literal(SCHEMA_COMMENT)}`,
        `create table ${schema}.migration (version integer primary key, applied_at timestamptz not null default now())`,
        `create table ${schema}.installation (
  singleton boolean primary key default true check (singleton),
  installation_id uuid not null default gen_random_uuid(),
  owner text not null,
  epoch bigint not null default 0,
  spec_hash text,
  version text,
  functions_hash text,
  built_at timestamptz
)`,
        `insert into ${schema}.installation (owner) values (${literal(action.owner)})`,
      ];
    case "Migrate":
      return [
        fillPlaceholders(sources.migrations.get(action.version) ?? "", names),
        `insert into ${schema}.migration (version) values (${action.version})`,
      ];
    case "ReplaceFunctions":
      return [
        fillPlaceholders(sources.functions, names),
        `revoke all on all functions in schema ${schema} from public`,
        `update ${schema}.installation set functions_hash = ${literal(action.hash)} || ' ' || (${functionsDigest(names)})`,
      ];
    case "AddCallback":
      return [
        `insert into ${schema}.callback (name, seen) values (${literal(action.callback)}, pg_current_snapshot()) on conflict (name) do nothing`,
      ];
    case "RemoveCallback":
      return [`delete from ${schema}.callback where name = ${literal(action.callback)}`];
    case "SetTriggers": {
      const table = qualified(action.table.schema, action.table.name);
      // A trigger that is wrong under the right name, disabled ones too, is replaced in place: no moment without capture.
      const created = action.create.map((operation) => triggerName(operation, names));
      return [
        // First, because a drop takes the strongest lock: one wait for the table, not a second one while writers are held.
        ...action.drop
          .filter((name) => !created.includes(name))
          .map((name) => `drop trigger if exists ${ident(name)} on ${table}`),
        ...action.create.map((operation) => createTrigger(operation, table, action.key, names)),
      ];
    }
    case "RecordBuild":
      return [
        `update ${schema}.installation set spec_hash = ${literal(action.specHash)}, version = ${literal(action.version)}, built_at = now()${
          action.epoch === null ? "" : `, epoch = ${action.epoch}`
        }`,
      ];
  }
}

/** `pgevents_insert`; with a mark of the schema where that is not the default, so that two captures of a table do not clash. */
export function triggerName(operation: Operation, names: CaptureNames): string {
  const mark = names.schemaName === "pgevents" ? "" : `_${names.channel.slice(-8)}`;
  return `pgevents_${operation.toLowerCase()}${mark}`;
}

/** A query for a digest of our functions as the server has them: it changes when somebody replaces one. */
export function functionsDigest(names: CaptureNames): string {
  return `select coalesce(md5(string_agg(proname || prosrc || prosecdef || coalesce(proconfig::text, ''), ',' order by proname)), '')
    from pg_catalog.pg_proc where pronamespace = (select oid from pg_catalog.pg_namespace where nspname = ${literal(names.schemaName)})`;
}

function createTrigger(
  operation: Operation,
  table: string,
  key: readonly string[],
  names: CaptureNames,
): string {
  const verb = operation.toLowerCase();
  const columns = operation === "Truncate" ? "" : key.map(literal).join(", ");
  return `create or replace trigger ${ident(triggerName(operation, names))} after ${verb} on ${table}${TRANSITION_TABLES[operation]} for each statement execute function ${names.schema}.capture_${verb}(${columns})`;
}
