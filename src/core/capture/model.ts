/** What a build compares: relations and triggers as the catalog has them, and as the spec wants them. */
import type { Operation } from "../api/capture.ts";
import type { CaptureLevel, TriggeredTable, TriggerKind } from "./triggers.ts";

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** A trigger that calls one of our functions, whatever its name. */
export interface ObservedTrigger {
  readonly name: string;
  /** Null: a build makes none of that name. */
  readonly kind: TriggerKind | null;
  /** What the server prints of it after its events, table and level; null when those are not as a build makes them. */
  readonly tail: string | null;
  /** The capture schema's name as the server prints it. */
  readonly callSchema: string;
  /** O: enabled, A: also for what replication writes; anything else: not. */
  readonly enabled: string;
  /** Of a partitioned table: it is enabled alike on every partition. */
  readonly clonesAlike: boolean;
}

export interface ObservedRelation extends TableName {
  /** pg_class.relkind: r ordinary, p partitioned, v view, m materialized view, f foreign. */
  readonly kind: string;
  /** Of a partition: the table at the top of its tree; else null. */
  readonly root: TableName | null;
  /** The level that it has at least. */
  readonly level: CaptureLevel;
  /** Triggers of the user may write its rows again while a statement on it is under way. */
  readonly writtenAgain: boolean;
  /** A function that would run with the rights of capture, because a column's type has a cast to json; null: none. */
  readonly unsafeCast: UnsafeCast | null;
  /** An extension made it; '*' leaves it out. */
  readonly ofExtension: boolean;
  readonly columns: readonly string[];
  readonly columnsDigest: string;
  /** Settings of writers change the text of its values. */
  readonly settingsMatter: boolean;
  /** Columns of the primary key, in key order; empty without one. */
  readonly key: readonly string[];
  readonly triggers: readonly ObservedTrigger[];
  readonly facts: RelationFacts;
}

/** Names as SQL has them. */
export interface UnsafeCast {
  readonly type: string;
  readonly function: string;
  readonly owner: string;
}

/** What else there is to know of a relation before its triggers are made. */
export interface RelationFacts {
  /** What the role lacks for making triggers here: rights on this table, its schema or its partitions. */
  readonly missingRights: readonly MissingRight[];
  /** The role may drop triggers: it is, or is a member of, the owner. */
  readonly owned: boolean;
  readonly owner: string;
  readonly unlogged: boolean;
  readonly rowSecurity: boolean;
  /** A subscription of logical replication writes to it. */
  readonly subscribed: boolean;
}

/** `object` as SQL names it. */
export interface MissingRight {
  readonly privilege: "USAGE" | "TRIGGER";
  readonly object: string;
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
  /** Owners of the objects in the schema hold what their functions need: nobody has revoked it. */
  readonly ownerRights: boolean;
  /** The worker's role holds what a worker needs (`worker-rights.ts`). */
  readonly workerRights: boolean;
}

/** The server, and what the role may do and finds set there. */
export interface ServerFacts {
  readonly role: string;
  readonly database: string;
  readonly inRecovery: boolean;
  /** The process that answered. */
  readonly backendPid: number;
  /** The role may create schemas in the database. */
  readonly mayCreateSchema: boolean;
  /** Connections that the role could still make, as the server, the database and the role limit them. */
  readonly freeConnections: number;
  /** Settings as a new session of the role has them, in their base units; also those of the spec that the server knows. */
  readonly settings: Readonly<Record<string, string>>;
}

/** The capture schema as the catalog has it, whatever is in it. */
export interface ObservedSchema {
  /** Names of the tables and sequences in it, ours or not. */
  readonly relations: readonly string[];
  readonly functions: number;
  /** Columns of the outbox. */
  readonly outboxColumns: readonly string[];
  /** The role may use it; true when it is not there. */
  readonly usable: boolean;
  /** The role owns it and everything in it, or is a member of the owner. */
  readonly owned: boolean;
  /** Null: the schema is not there. */
  readonly owner: string | null;
  /** Owner by its `installation`, when that table is all that can be read of a damaged capture. */
  readonly damagedOwner: string | null;
}

export interface ObservedCatalog {
  readonly serverVersion: string;
  readonly readOnly: boolean;
  readonly server: ServerFacts;
  readonly schema: ObservedSchema;
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
export interface DesiredTable extends TableName, Omit<TriggeredTable, "table"> {
  /** It is captured as a part of another one. */
  readonly isPartition: boolean;
  readonly operations: readonly Operation[];
}

/** What to capture, as the functions in the database read it; `schema` null: any. */
export interface CaptureEntry {
  readonly schema: string | null;
  readonly name: string;
  readonly exclude?: readonly string[] | undefined;
  readonly operations: readonly Operation[];
  readonly rule: string;
  readonly when: Readonly<Partial<Record<Operation, string>>>;
  /** Instead of the primary key. */
  readonly key?: readonly string[] | undefined;
  /** Triggers are for each row, whatever the table. */
  readonly byRow: boolean;
  readonly replicated: boolean;
}

export function tableText({ schema, name }: TableName): string {
  return `${schema}.${name}`;
}
