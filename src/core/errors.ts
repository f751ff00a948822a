/**
 * The one error type that pg-events raises on purpose. Everything a user can act on has a stable
 * code (`PGE_…`), says what is wrong, where, and what to do; it never carries a password, a header
 * value or the content of a row.
 */

/** Every code with what it means; docs/reference/errors.md is made from this. */
export const ERRORS = {
  PGE_ABORTED: "A build was stopped before its end. What it had done stays, and the next one goes on.",
  PGE_ADDRESS_INVALID: "An address to listen on is not host:port.",
  PGE_ADDRESS_IN_USE: "An address to listen on is taken, or may not be used.",
  PGE_ANCESTOR_PRESENT:
    "The event triggers of the Python package pg_events are in the database; drop them first.",
  PGE_AUTHENTICATION_FAILED: "The database refused the role or its password.",
  PGE_CLIENT_MISSING: "The client package that a callback needs is not installed.",
  PGE_CAPTURE_DAMAGED:
    "Tables or columns of the capture schema were dropped by hand, and with them what had not been delivered.",
  PGE_CALLBACK_UNRESOLVED:
    "A callback refers to something in a cluster, and this worker was not started by the operator.",
  PGE_CONNECTION_FAILED: "The database cannot be reached, or takes no connections now.",
  PGE_DATABASE_MISSING: "No database was given, or the one that was given does not exist.",
  PGE_DATABASE_READ_ONLY: "The server is a replica, read-only, or starting up.",
  PGE_DATABASE_REFUSED: "The database refused a statement; its log says why.",
  PGE_DATABASE_URL_INVALID: "A database URL is not one, or has a parameter that is not supported.",
  PGE_EMBEDDED_POSTGRES: "The embedded PostgreSQL is not installed or did not start.",
  PGE_FLAG_INVALID: "A flag has a value that cannot be used.",
  PGE_KUBECONFIG_INVALID: "The configuration of the Kubernetes client cannot be read.",
  PGE_LOCK_TIMEOUT: "A table was locked by others for longer than `lockTimeoutSeconds`; it is tried again.",
  PGE_MANIFEST_INVALID: "A PgEventSource does not pass validation; every finding is listed with its path.",
  PGE_MANIFEST_MISSING: "No PgEventSource was given.",
  PGE_MANIFEST_UNREADABLE: "A file is missing, is not YAML, or does not hold exactly one PgEventSource.",
  PGE_MANUAL_INSTALL:
    "spec.capture.install is Manual, so nothing is changed in the database; `build --dry-run` prints the SQL.",
  PGE_MODULES_MISSING: "A callback runs a module of a ConfigMap, and no directory with its file was given.",
  PGE_NOT_BUILT: "The database has no capture yet; the worker goes on by itself once it has.",
  PGE_NOT_FOUND: "What a command was told to act on is not there.",
  PGE_OWNERSHIP_CONFLICT: "The capture schema belongs to another PgEventSource.",
  PGE_PERMISSION_DENIED: "The role lacks a right in the database.",
  PGE_REPLAY_NOT_RETAINED:
    "A part of what is to be replayed is gone from the outbox; --available takes the rest.",
  PGE_SCHEMA_IN_USE: "The schema for capture exists and holds something else.",
  PGE_SECRET_INVALID: "A Secret lacks a key, or its value cannot be used. The value is never shown.",
  PGE_SERVER_TOO_OLD: "The server is older than PostgreSQL 14.",
  PGE_SETTINGS_INVALID:
    "A setting of --settings is missing, unknown, or names a function that does not exist.",
  PGE_SETTINGS_UNREADABLE:
    "The module of --settings is missing, or it or a module it names cannot be loaded.",
  PGE_SINK_BINDING_INVALID: "What a Knative SinkBinding has put into the environment cannot be used.",
  PGE_STALE_BUILDER: "A newer leader of the operator has built since.",
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** What the caller should do with the failed piece of work. */
export type Disposition =
  /** The world may change: try again with backoff. */
  | "retry"
  /** It will fail in the same way until somebody changes the input. */
  | "stop";

export interface PgEventsErrorOptions {
  /** What the user can do about it, one sentence. */
  remedy?: string;
  /** A condition reason of `core/api/conditions.ts` when the error belongs to one, else absent. */
  reason?: string;
  disposition?: Disposition;
  cause?: unknown;
}

export class PgEventsError extends Error {
  readonly code: ErrorCode;
  readonly remedy: string | undefined;
  readonly reason: string | undefined;
  readonly disposition: Disposition;

  constructor(code: ErrorCode, message: string, options: PgEventsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PgEventsError";
    this.code = code;
    this.remedy = options.remedy;
    this.reason = options.reason;
    this.disposition = options.disposition ?? "stop";
  }
}

/** The text shown to a person: code, message, remedy; no stack and no cause. */
export function describeError(error: unknown): string {
  if (error instanceof PgEventsError) {
    return error.remedy === undefined
      ? `${error.code}: ${error.message}`
      : `${error.code}: ${error.message} ${error.remedy}`;
  }
  return error instanceof Error ? error.message : String(error);
}
