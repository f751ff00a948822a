/**
 * Runs the transactions of a build. Each table is a short one of its own under `lock_timeout`, sent in one
 * round trip and tried a few times with jitter, so that no writer waits behind a build for longer than that; a
 * table that fails is reported and does not stop the others.
 */
import type pg from "pg";
import type { CaptureAction } from "../core/capture/diff.ts";
import { type FailureCode, type Finding, finding } from "../core/capture/findings.ts";
import { type BuildTransaction, transactionText } from "../core/capture/transactions.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { databaseError, serverVersionOf } from "./connect.ts";

/** Attempts for one table when others hold its lock, or lock in another order. */
const TABLE_ATTEMPTS = 3;
/** SQLSTATEs of a lock that could not be had. */
export const LOCK_STATES = ["55P03", "40P01"];
/** Milliseconds between those attempts at most, so that who waited behind us gets through. */
const LOCK_PAUSE_MS = 500;
/** Milliseconds that the driver waits beyond the server's own limits. */
const DRIVER_PATIENCE_MS = 5000;

export interface Progress {
  /** Tables that were set up, or failed. */
  readonly done: number;
  readonly total: number;
}

export interface ApplyContext {
  readonly client: pg.Client;
  readonly settings: DatabaseSettings;
  readonly signal: AbortSignal | undefined;
  readonly onAction: (action: CaptureAction) => void;
  readonly onProgress: (progress: Progress) => void;
}

/**
 * @returns why tables, or the event triggers, could not be set up
 * @throws PgEventsError when something fails that the rest needs; what ran before stays
 */
export async function applyTransactions(
  context: ApplyContext,
  transactions: readonly BuildTransaction[],
): Promise<Finding[]> {
  const failures: Finding[] = [];
  const total = transactions.filter(isOfTable).length;
  let done = 0;
  for (const transaction of transactions) {
    if (context.signal?.aborted)
      throw new PgEventsError("PGE_ABORTED", "The build was stopped.", { disposition: "retry" });
    const { part, statements, actions } = transaction;
    const failure = part === null ? null : await attempt(context, part, transaction);
    if (part === null) await inTransaction(context, statements);
    if (failure === null) actions.forEach(context.onAction);
    else failures.push(failure);
    if (!isOfTable(transaction)) continue;
    done += 1;
    context.onProgress({ done, total });
  }
  return failures;
}

function isOfTable({ actions }: BuildTransaction): boolean {
  return actions.some(({ kind }) => kind === "SetTriggers");
}

async function attempt(
  context: ApplyContext,
  part: string,
  { statements, actions }: BuildTransaction,
): Promise<Finding | null> {
  for (let count = 1; ; count += 1) {
    try {
      await inTransaction(context, statements);
      return null;
    } catch (error) {
      const known = databaseError(error, context.settings);
      const state = sqlState(known);
      if (state === null || /^(08|57P)/.test(state)) throw known; // the connection
      if (OF_A_CONDITION.test(state) && actions.some(isConditional)) return conditionFailure(part, error);
      if (!LOCK_STATES.includes(state) || count === TABLE_ATTEMPTS)
        return finding(failureCode(known), part, `${part}: ${known.message}`, known.remedy ?? null);
      await lockPause();
    }
  }
}

/** SQLSTATEs by which the server says that it does not take an expression: what it means, and values in it. */
const OF_A_CONDITION = /^(0A|22|42(?!501))/;

function isConditional(action: CaptureAction): boolean {
  return (
    action.kind === "SetTriggers" &&
    action.create.some((kind) => kind !== "End" && action.when[kind] !== undefined)
  );
}

/** The server's words may be told here: they are about a text of the spec, and no row is looked at. */
function conditionFailure(table: string, error: unknown): Finding {
  const { cause } = error as { cause?: unknown };
  const { message } = (cause ?? error) as Error;
  return finding(
    "ConditionInvalid",
    table,
    `${table}: ${message}.`,
    "Correct `when` of the table in spec.capture.tables.",
  );
}

/** The SQLSTATE behind an error; null when the server did not send one. */
export function sqlState(error: unknown): string | null {
  const { code = "" } = ((error as { cause?: unknown }).cause ?? {}) as { code?: string };
  return /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

export function lockPause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS * Math.random()));
}

function failureCode({ reason }: PgEventsError): FailureCode {
  return reason === "PermissionDenied" || reason === "LockTimeout" ? reason : "BuildFailed";
}

/**
 * Runs statements in a transaction, with the time limits of the settings, in one round trip.
 * @throws PgEventsError
 */
export async function inTransaction(
  { client, settings }: Pick<ApplyContext, "client" | "settings">,
  statements: readonly string[],
): Promise<void> {
  try {
    // The server's limit is for each statement, the driver's for the whole text.
    const query_timeout =
      (statements.length + 1) * settings.statementTimeoutSeconds * 1000 + DRIVER_PATIENCE_MS;
    await client.query({
      text: transactionText(statements, settings, serverVersionOf(client)),
      query_timeout,
    } as pg.QueryConfig);
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw databaseError(error, settings);
  }
}
