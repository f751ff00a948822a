/**
 * What a look at the database can find, each kind with a stable code. docs/reference/findings.md is made
 * from this. Pure.
 */
import type { Reason } from "../api/conditions.ts";
import { type ErrorCode, PgEventsError } from "../errors.ts";

/** Fatal: nothing is built. Error: a part is not captured, or not as the spec wants it. */
export const SEVERITIES = ["Fatal", "Error", "Warning", "Info"] as const;
export type Severity = (typeof SEVERITIES)[number];

interface Kind {
  readonly severity: Severity;
  readonly meaning: string;
  /** Of a fatal one: the error that a build ends with, and its condition reason. */
  readonly error?: ErrorCode;
  readonly reason?: Reason;
}

const fatal = (error: ErrorCode, reason: Reason, meaning: string) =>
  ({ severity: "Fatal", error, reason, meaning }) as const;
const failure = (meaning: string) => ({ severity: "Error", meaning }) as const;
const warning = (meaning: string) => ({ severity: "Warning", meaning }) as const;
const info = (meaning: string) => ({ severity: "Info", meaning }) as const;

/** Codes of errors are condition reasons as well. */
const KINDS = {
  ServerTooOld: fatal("PGE_SERVER_TOO_OLD", "UnsupportedServer", "The server is older than PostgreSQL 14."),
  DatabaseReadOnly: fatal(
    "PGE_DATABASE_READ_ONLY",
    "DatabaseReadOnly",
    "The server is a replica, or transactions are read-only by a setting of the server, the database or the role.",
  ),
  SchemaNotAllowed: fatal(
    "PGE_PERMISSION_DENIED",
    "PermissionDenied",
    "The role may not create the schema for capture, or may not make or change what has to be in it.",
  ),
  SchemaInUse: fatal(
    "PGE_SCHEMA_IN_USE",
    "OwnershipConflict",
    "The schema for capture exists and holds something else.",
  ),
  OwnershipConflict: fatal(
    "PGE_OWNERSHIP_CONFLICT",
    "OwnershipConflict",
    "The capture schema belongs to another PgEventSource.",
  ),
  CaptureNotReadable: fatal(
    "PGE_PERMISSION_DENIED",
    "PermissionDenied",
    "There is capture, made by another role, and this one may not read it.",
  ),
  CaptureDamaged: fatal(
    "PGE_CAPTURE_DAMAGED",
    "BuildFailed",
    "Tables, sequences or columns of the capture schema were dropped by hand.",
  ),
  StaleBuilder: fatal("PGE_STALE_BUILDER", "BuildFailed", "A newer leader of the operator has built since."),
  AncestorPresent: fatal(
    "PGE_ANCESTOR_PRESENT",
    "BuildFailed",
    "The event triggers of the Python package pg_events are in the database, and no table can be made beside them.",
  ),

  TableNotFound: failure("A table that the spec names does not exist; it is captured as soon as it does."),
  ColumnNotFound: failure("A column that the spec names for a table does not exist."),
  ConditionInvalid: failure(
    "PostgreSQL does not take a condition (`when`) of the spec for its table, or it uses what it may not; the triggers that the table had stay as they were.",
  ),
  UnsafeCast: failure(
    "A column of a table has a type that a function of another role turns into JSON (`create cast (… as json)`). Capture would run it with its own rights, so the table is not captured.",
  ),
  TableNotSupported: failure("A relation that the spec names cannot be captured."),
  PermissionDenied: failure(
    "The role may not make, or not drop, the triggers of a table, or may not make event triggers.",
  ),
  LockTimeout: failure(
    "A table was locked by others for longer than `lockTimeoutSeconds`; it is tried again.",
  ),
  BuildFailed: failure("The server refused a statement for a table; its log says why."),

  UnsafeCastSkipped: warning("The same of a table that '*' stands for: it is left out."),
  AncestorTriggers: warning("The triggers of the Python package pg_events are still on tables."),
  OutboxChanged: warning("The outbox has columns that pg-events did not make."),
  FewConnections: warning("The server, the database or the role has hardly a connection left for us."),
  StatementTimeout: warning(
    "A setting ends the role's statements after less than 30 seconds; reading a large backlog may take longer.",
  ),
  IdleTimeout: warning(
    "A setting ends the role's idle sessions; a worker that waits for events has one, and would connect again and again.",
  ),
  EncodingWithGaps: warning(
    "The database's encoding holds characters that UTF-8 lacks, or any bytes (SQL_ASCII): an event with such a text becomes a dead letter.",
  ),
  ReplicatedTable: warning(
    "A subscription of logical replication writes to captured tables, and that is not captured unless `spec.capture.replicated` is true.",
  ),
  Pooler: warning("A connection pooler stands between; in transaction mode wake-ups are by polling."),

  SchemaChangesByPolling: info(
    "The role may not make event triggers, so changes of tables are noticed within seconds, not at once.",
  ),
  KeyHidden: info(
    "Of a table's primary key a column is excluded or masked; its events are ordered for the table as a whole.",
  ),
  NoKey: info("Tables without a primary key: their events are ordered for the table as a whole."),
  Skipped: info("Relations that '*' leaves out."),
  Unlogged: info("Unlogged tables: a crash of the server empties them without an event."),
  RowSecurity: info("Tables with row-level security: events hold every row, whatever the policies say."),
  TwoPhaseCommit: info(
    "Two-phase commit is possible (`max_prepared_transactions` is above 0): writers send no wake-up, and the worker looks at least every half second.",
  ),
  SettingOfExtension: info(
    "A setting of `capture.context` belongs to the server or an extension, not to the application.",
  ),
  ManyTables: info("More tables than a look every few seconds is cheap for."),
} as const satisfies Record<string, Kind>;

export type FindingCode = keyof typeof KINDS;
type FatalCode = {
  [C in FindingCode]: (typeof KINDS)[C]["severity"] extends "Fatal" ? C : never;
}[FindingCode];
export type FailureCode = {
  [C in FindingCode]: (typeof KINDS)[C]["severity"] extends "Error" ? C : never;
}[FindingCode];

export const FINDINGS: Readonly<Record<FindingCode, Kind>> = KINDS;

/** Something that a build, or a look before it, has to tell. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** A table as `schema.name`, or `server`, `role`, `schema …`, `event triggers`. */
  readonly where: string;
  /** What is so, in a sentence that says where. Nothing of a Secret, and nothing of a row. */
  readonly message: string;
  /** What to do: SQL or a line of the manifest to paste. */
  readonly remedy: string | null;
}

/** What keeps a part of the spec from being captured. */
export type Failure = Finding & { readonly code: FailureCode };

export function finding<C extends FindingCode>(
  code: C,
  where: string,
  message: string,
  remedy: string | null = null,
): Finding & { readonly code: C } {
  return { code, severity: KINDS[code].severity, where, message, remedy };
}

export function isFailure(one: Finding): one is Failure {
  return one.severity === "Error";
}

export function isFatal(one: Finding): one is Finding & { readonly code: FatalCode } {
  return one.severity === "Fatal";
}

/** The error of a fatal finding, for whoever cannot go on. */
export function refusal({ code, message, remedy }: Finding & { readonly code: FatalCode }): PgEventsError {
  const { error, reason } = KINDS[code];
  return new PgEventsError(error, message, {
    reason,
    disposition: "retry",
    ...(remedy === null ? {} : { remedy }),
  });
}

/** Code, what, and what to do, on one line. */
export function findingText({ code, message, remedy }: Finding): string {
  return remedy === null ? `${code}: ${message}` : `${code}: ${message} ${remedy}`;
}

/** The worst first, otherwise as they were. */
export function bySeverity(findings: readonly Finding[]): Finding[] {
  const rank = ({ severity }: Finding) => SEVERITIES.indexOf(severity);
  return [...findings].sort((a, b) => rank(a) - rank(b));
}
