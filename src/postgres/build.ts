/**
 * A build: makes the database's capture as the spec wants it, changing only what differs. catalog → plan →
 * preflight → diff → transactions → apply, the same from the command line, the worker and the operator.
 *
 * One builder at a time works on a capture schema (an advisory lock); who waits for it looks again
 * before doing anything. An unchanged database costs the catalog query and no lock.
 */
import type pg from "pg";
import type { CaptureSpec } from "../core/api/capture.ts";
import type { CaptureAction } from "../core/capture/diff.ts";
import { type Failure, type Finding, isFailure, isFatal, refusal } from "../core/capture/findings.ts";
import { captureFingerprint } from "../core/capture/fingerprint.ts";
import { type SchemaChangeMode, tableText } from "../core/capture/model.ts";
import { captureNames } from "../core/capture/names.ts";
import { SETUP, transactionsFor, transactionText } from "../core/capture/transactions.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { applyTransactions, type Progress } from "./apply.ts";
import { type Assessment, assessCapture } from "./assess-capture.ts";
import { withBuildLock } from "./build-lock.ts";
import { connectDatabase, databaseError } from "./connect.ts";
import { sqlSources } from "./sql-files.ts";

export interface BuildRequest {
  readonly capture: CaptureSpec;
  /** Names of the callbacks. */
  readonly callbacks: readonly string[];
  /** Who owns the capture: `manifest:<namespace>/<name>` or `kubernetes:<namespace>/<name>/<uid>`. */
  readonly owner: string;
  /** Grows with each leader of the operator; a builder with a lower one than the last is refused. */
  readonly epoch?: number;
  /** Version of pg-events. */
  readonly version: string;
  /** Role of the worker, with `install: Manual`. Default: the role of the connection. */
  readonly workerRole?: string | undefined;
}

export interface BuildOptions {
  /** plan: look only; what speaks against a build is among the findings then, and not thrown. */
  readonly mode: "apply" | "plan";
  readonly signal?: AbortSignal;
  /** Does nothing unless the last build was of this spec and by this version: a worker that is being replaced must not undo it. */
  readonly onlyIfCurrent?: boolean;
  /** Findings say ROLE for the role's name, because that comes from a Secret. */
  readonly hideRole?: boolean;
  /** Called when something is about to be changed, once nothing speaks against it. */
  readonly beforeApply?: () => Promise<void>;
  /** Called at the end with the build's connection, to read on. */
  readonly inspect?: (client: pg.Client, report: BuildReport) => Promise<void>;
  /** Told after each action that was applied. */
  readonly onAction?: (action: CaptureAction) => void;
  /** Told after each table. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface BuildReport {
  /** Something was changed, or in mode `plan` would be. */
  readonly changed: boolean;
  /** What was done, or in mode `plan` would be. */
  readonly actions: readonly CaptureAction[];
  /** What waits for somebody to run it (`install: Manual`). */
  readonly pending: readonly CaptureAction[];
  /** Tables and parts of capture that others have changed, if spec and version are those of the last build. */
  readonly drift: readonly string[];
  /** The SQL of both, a transaction each. */
  readonly sql: readonly string[];
  /** The findings that keep something from being captured. */
  readonly failures: readonly Failure[];
  readonly findings: readonly Finding[];
  /** There is capture of this owner, and a worker of this version can use it. */
  readonly usable: boolean;
  /** Tables captured now. */
  readonly tables: number;
  readonly serverVersion: string;
  readonly schemaChangeMode: SchemaChangeMode;
  readonly specHash: string;
  /** Version of the tables in the capture schema; 0 without one. */
  readonly schemaVersion: number;
}

/** @throws PgEventsError whose `reason` is a condition reason */
export async function buildCapture(
  settings: DatabaseSettings,
  request: BuildRequest,
  options: BuildOptions,
): Promise<BuildReport> {
  const client = await connectDatabase(settings, "build");
  const stop = () => void client.end().catch(() => undefined);
  options.signal?.addEventListener("abort", stop, { once: true });
  try {
    const report = await build(client, settings, request, options);
    await options.inspect?.(client, report);
    return report;
  } catch (error) {
    throw databaseError(error, settings);
  } finally {
    options.signal?.removeEventListener("abort", stop);
    await client.end().catch(() => undefined);
  }
}

async function build(
  client: pg.Client,
  settings: DatabaseSettings,
  request: BuildRequest,
  options: BuildOptions,
): Promise<BuildReport> {
  const names = captureNames(request.capture.schemaName);
  const look = async () => {
    const found = await assessCapture(client, names, request, options);
    const obstacle = found.findings.find(isFatal);
    if (obstacle !== undefined && options.mode === "apply") throw refusal(obstacle);
    return found;
  };
  const first = await look();
  if (options.mode === "plan")
    return report(first, request, settings, [...first.actions, ...first.pending], []);
  if (first.actions.length === 0) return report(first, request, settings, [], []);
  await options.beforeApply?.();
  const context = {
    client,
    settings,
    signal: options.signal,
    onAction: options.onAction ?? (() => undefined),
    onProgress: options.onProgress ?? (() => undefined),
  };
  return withBuildLock({ settings, names, signal: options.signal }, async () => {
    const found = await look(); // another build may have done it meanwhile
    const failures = await applyTransactions(context, transactionsFor(found.actions, names, sqlSources()));
    return report(found, request, settings, found.actions, failures);
  });
}

function report(
  { catalog, plan, mode, pending, drift, findings: before }: Assessment,
  request: BuildRequest,
  settings: DatabaseSettings,
  actions: readonly CaptureAction[],
  failures: readonly Finding[],
): BuildReport {
  const findings = [...before, ...failures];
  const names = captureNames(request.capture.schemaName);
  const written = [...new Set([...actions, ...pending])];
  const failed = new Set(
    findings.filter(({ code }) => NOT_CAPTURED.includes(code)).map(({ where }) => where),
  );
  return {
    changed: actions.length > 0,
    actions,
    pending,
    drift,
    sql: transactionsFor(written, names, sqlSources()).map(({ statements }) =>
      transactionText(statements, settings, catalog.serverVersion),
    ),
    failures: findings.filter(isFailure),
    findings,
    usable: request.capture.install === "Managed" || isUsable(catalog, request, pending),
    tables: plan.tables.filter((table) => !table.isPartition && !failed.has(tableText(table))).length,
    serverVersion: catalog.serverVersion,
    schemaChangeMode: mode,
    specHash: captureFingerprint(request.capture, request.callbacks),
    schemaVersion: Math.max(0, ...(catalog.installation?.migrations ?? []), ...migrationsOf(actions)),
  };
}

function migrationsOf(actions: readonly CaptureAction[]): number[] {
  return actions.flatMap((action) => (action.kind === "Migrate" ? [action.version] : []));
}

/** Made by somebody else: whole, of this version, and with the rights that a worker needs. */
function isUsable(
  { installation }: Assessment["catalog"],
  { owner }: BuildRequest,
  pending: readonly CaptureAction[],
): boolean {
  if (installation?.owner !== owner) return false;
  return !pending.some(({ kind }) => SETUP.includes(kind));
}

/** Failures of tables that are there and have no, or not the right, triggers. */
const NOT_CAPTURED: readonly string[] = [
  "PermissionDenied",
  "LockTimeout",
  "ConditionInvalid",
  "BuildFailed",
];
