/** Per-table DDL and the statements of a build, as text. Every name passes `ident`, every text `literal`. */
import { functionsDigest, SCHEMA_COMMENT, strayObjects, TABLES_DIGEST } from "./catalog-sql.ts";
import { confineFunctions } from "./confinement.ts";
import { settingChecks } from "./context.ts";
import type { CaptureAction } from "./diff.ts";
import { createEventTriggers, dropEventTrigger } from "./event-triggers.ts";
import type { SchemaChangeMode } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { fillPlaceholders } from "./placeholders.ts";
import { ident, literal, qualified } from "./quote.ts";
import { createTrigger } from "./triggers.ts";
import { grantWorkerRights } from "./worker-rights.ts";

/** The texts of sql/, by version, and the function files joined. */
export interface SqlSources {
  readonly migrations: ReadonlyMap<number, string>;
  readonly functions: string;
}

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
        ...settingChecks(action.options.context),
        "set local check_function_bodies = off", // they may call one another in any order
        fillPlaceholders(sources.functions, names, action.options),
        `revoke all on all functions in schema ${schema} from public`,
        `update ${schema}.installation set functions_hash = ${literal(action.hash)} || ' ' || (${functionsDigest(names)})`,
      ];
    case "RestoreOwnership":
      return [
        `do $restore$ declare stray record; begin for stray in ${strayObjects(names)} loop execute stray.reown; execute stray.regrant; end loop; end $restore$`,
        confineFunctions(names),
      ];
    case "GrantWorker":
      return grantWorkerRights(action.role, names);
    case "AddCallback":
      return [
        `insert into ${schema}.callback (name, seen) values (${literal(action.callback)}, pg_current_snapshot()) on conflict (name) do nothing`,
      ];
    case "RemoveCallback":
      return [
        `delete from ${schema}.callback where name = ${literal(action.callback)}`,
        ...["lease", "agreed_window", "parked", "replay"].map(
          (table) => `delete from ${schema}.${table} where callback = ${literal(action.callback)}`,
        ),
      ];
    case "SetTriggers": {
      // A trigger that is wrong under the right name, disabled ones too, is replaced in place: no moment without capture.
      const created = action.create.map((operation) => createTrigger(operation, action, names));
      const table = qualified(action.table.schema, action.table.name);
      return [
        // First, because a drop takes the strongest lock: one wait for the table, not a second one while writers are held.
        ...action.drop
          .filter((name) => !created.some((trigger) => trigger.name === name))
          .map((name) => `drop trigger if exists ${ident(name)} on ${table}`),
        ...created.flatMap(({ statements }) => statements),
      ];
    }
    case "FollowSchemaChanges":
      return [
        ...action.drop.map(dropEventTrigger),
        ...(action.mode === "EventTrigger" && action.create ? createEventTriggers(names) : []),
        ...(action.fromMode === action.mode ? [] : switchMode(action.mode, schema)),
      ];
    case "TellSchemaChanges":
      return [digestTables(schema), `select ${schema}.compare_tables(true)`];
    case "RecordBuild":
      return [
        `update ${schema}.installation set spec_hash = ${literal(action.specHash)}, version = ${literal(action.version)}, capture_tables = ${literal(JSON.stringify(action.captureTables))}, built_at = now()${
          action.epoch === null ? "" : `, epoch = ${action.epoch}`
        }`,
      ];
  }
}

function switchMode(mode: SchemaChangeMode, schema: string): string[] {
  const known =
    mode === "Poll"
      ? [digestTables(schema), `select ${schema}.compare_tables(false)`]
      : [`delete from ${schema}.known_table`];
  return [...known, `update ${schema}.installation set schema_change_mode = ${literal(mode)}`];
}

/** Before the comparison: what changes between the two is told of then, and at the worst compared once more. */
function digestTables(schema: string): string {
  return `update ${schema}.installation set tables_digest = (${TABLES_DIGEST})`;
}
