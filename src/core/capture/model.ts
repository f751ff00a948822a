/** What a build compares: relations and triggers as the catalog has them, and as the spec wants them. */
import type { Operation } from "../api/capture.ts";
import type { CaptureLevel } from "./triggers.ts";

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** A trigger that calls one of our functions, whatever its name. */
export interface ObservedTrigger {
  readonly name: string;
  readonly operation: Operation | null;
  /** It is what a build would create now: name, events, key columns, enabled; but for `shape`. */
  readonly current: boolean;
  /** Its argument for what of a row is captured (`rowShape`); null for TRUNCATE. */
  readonly shape: string | null;
}

export interface ObservedRelation extends TableName {
  /** pg_class.relkind: r ordinary, p partitioned, v view, m materialized view, f foreign. */
  readonly kind: string;
  /** Of a partition: the table at the top of its tree; else null. */
  readonly root: TableName | null;
  readonly level: CaptureLevel;
  /** An extension made it; '*' leaves it out. */
  readonly ofExtension: boolean;
  readonly columns: readonly string[];
  /** Columns of the primary key, in key order; empty without one. */
  readonly key: readonly string[];
  readonly triggers: readonly ObservedTrigger[];
}

/** How changes of tables are noticed and told of. */
export const SCHEMA_CHANGE_MODES = ["EventTrigger", "Poll", "Off"] as const;
export type SchemaChangeMode = (typeof SCHEMA_CHANGE_MODES)[number];

export interface ObservedInstallation {
  readonly installationId: string;
  readonly owner: string;
  readonly epoch: string;
  readonly specHash: string | null;
  readonly version: string | null;
  readonly migrations: readonly number[];
  readonly callbacks: readonly string[];
  /** Null: not set up yet. */
  readonly schemaChangeMode: SchemaChangeMode | null;
  /** Mode Poll: the tables are not as they were last told of. */
  readonly tablesChanged: boolean;
  /** Every function is there, came from the same source text, and was not changed since. */
  readonly functionsHash: string | null;
}

export interface ObservedCatalog {
  readonly serverVersion: string;
  readonly readOnly: boolean;
  /** The capture schema holds tables or functions, ours or not. */
  readonly schemaInUse: boolean;
  readonly installation: ObservedInstallation | null;
  /** The role may make event triggers. */
  readonly mayMakeEventTriggers: boolean;
  /** Those that call our functions; `current`: as a build would make it now. */
  readonly eventTriggers: readonly { readonly name: string; readonly current: boolean }[];
  /** What the Python package pg_events left: tables with its trigger, and its event triggers. */
  readonly ancestor: { readonly tables: number; readonly eventTriggers: readonly string[] };
  readonly relations: readonly ObservedRelation[];
}

/** A table with the operations that its triggers must capture. */
export interface DesiredTable extends TableName {
  /** It is captured as a part of another one. */
  readonly isPartition: boolean;
  readonly operations: readonly Operation[];
  readonly shape: string;
}

/** What to capture, as the functions in the database read it; `schema` null: any. */
export interface CaptureEntry {
  readonly schema: string | null;
  readonly name: string;
  readonly exclude?: readonly string[] | undefined;
  readonly operations: readonly Operation[];
  readonly shape: string;
}

/** Why a table of the spec is not captured. A reason of core/api/conditions.ts. */
export interface TableFailure {
  readonly table: string;
  readonly reason:
    | "ColumnNotFound"
    | "TableNotFound"
    | "TableNotSupported"
    | "PermissionDenied"
    | "LockTimeout"
    | "BuildFailed";
  readonly message: string;
}

/** Something the user should know that does not stop the build. */
export interface Finding {
  readonly message: string;
}

export function tableText({ schema, name }: TableName): string {
  return `${schema}.${name}`;
}
