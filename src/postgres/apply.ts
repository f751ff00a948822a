/**
 * Runs the actions of a build. Each table is a short transaction of its own under `lock_timeout`, tried
 * a few times with jitter, so that no writer waits behind a build for longer than that; a table that
 * fails is reported and does not stop the others. Everything else is one transaction an action.
 */
import type pg from "pg";
import { type SqlSources, statementsFor } from "../core/capture/ddl.ts";
import type { CaptureAction } from "../core/capture/diff.ts";
import { type TableFailure, tableText } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { databaseError } from "./connect.ts";

/** Attempts for one table when others hold its lock, or lock in another order. */
const TABLE_ATTEMPTS = 3;
/** SQLSTATEs of a lock that could not be had. */
export const LOCK_STATES = ["55P03", "40P01"];
/** Milliseconds between those attempts at most, so that who waited behind us gets through. */
const LOCK_PAUSE_MS = 500;

export interface ApplyContext {
  readonly client: pg.Client;
  readonly names: CaptureNames;
  readonly sources: SqlSources;
  readonly settings: DatabaseSettings;
  readonly signal: AbortSignal | undefined;
  readonly onAction: (action: CaptureAction) => void;
}

/**
 * @returns the tables that failed
 * @throws PgEventsError when an action that is not about one table fails; what ran before stays
 */
export async function applyActions(
  context: ApplyContext,
  actions: readonly CaptureAction[],
): Promise<TableFailure[]> {
  const failures: TableFailure[] = [];
  const setup = actions.filter(({ kind }) => isSetup(kind));
  if (setup.length > 0) {
    await inTransaction(
      context,
      setup.flatMap((action) => statementsFor(action, context.names, context.sources)),
    );
    setup.forEach(context.onAction);
  }
  for (const action of actions) {
    if (isSetup(action.kind)) continue;
    if (context.signal?.aborted)
      throw new PgEventsError("PGE_ABORTED", "The build was stopped.", { disposition: "retry" });
    const statements = statementsFor(action, context.names, context.sources);
    const part = partOf(action);
    const failure = part === null ? null : await attempt(context, part, statements);
    if (part === null) await inTransaction(context, statements);
    if (failure === null) context.onAction(action);
    else failures.push(failure);
  }
  return failures;
}

/** The actions that make the schema and its functions: all of them, or none. */
function isSetup(kind: CaptureAction["kind"]): boolean {
  return kind === "InstallSchema" || kind === "Migrate" || kind === "ReplaceFunctions";
}

const EVENT_TRIGGERS = "event triggers";
const EVENT_TRIGGERS_HINT =
  " Only a superuser can make them; set spec.capture.schemaChanges to Auto or Poll otherwise.";

/** What fails by itself, without stopping the build; null for an action that the rest needs. */
function partOf(action: CaptureAction): string | null {
  if (action.kind === "SetTriggers") return tableText(action.table);
  return action.kind === "FollowSchemaChanges" ? EVENT_TRIGGERS : null;
}

async function attempt(
  context: ApplyContext,
  table: string,
  statements: readonly string[],
): Promise<TableFailure | null> {
  for (let count = 1; ; count += 1) {
    try {
      await inTransaction(context, statements);
      return null;
    } catch (error) {
      const known = databaseError(error, context.settings);
      const state = sqlState(known);
      if (state === null || /^(08|57P)/.test(state)) throw known; // the connection
      if (!LOCK_STATES.includes(state) || count === TABLE_ATTEMPTS)
        return {
          table,
          reason: tableReason(known),
          message: `${table}: ${known.message}${table === EVENT_TRIGGERS ? EVENT_TRIGGERS_HINT : ""}`,
        };
      await lockPause();
    }
  }
}

/** The SQLSTATE behind an error; null when the server did not send one. */
export function sqlState(error: unknown): string | null {
  const { code = "" } = ((error as { cause?: unknown }).cause ?? {}) as { code?: string };
  return /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

export function lockPause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS * Math.random()));
}

function tableReason(error: PgEventsError): TableFailure["reason"] {
  return error.reason === "PermissionDenied" || error.reason === "LockTimeout" ? error.reason : "BuildFailed";
}

/**
 * Runs statements in a transaction, with the timeouts of the settings and a search path on which no
 * function or operator of a user is.
 * @throws PgEventsError
 */
export async function inTransaction(
  { client, settings }: Pick<ApplyContext, "client" | "settings">,
  statements: readonly string[],
): Promise<void> {
  try {
    await client.query(
      `begin; set local search_path = pg_catalog; set local lock_timeout = '${settings.lockTimeoutSeconds}s'; set local statement_timeout = '${settings.statementTimeoutSeconds}s'`,
    );
    for (const statement of statements) await client.query(statement);
    await client.query("commit");
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw databaseError(error, settings);
  }
}
