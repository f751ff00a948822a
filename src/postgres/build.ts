/**
 * A build: makes the database's capture as the spec wants it, changing only what differs. plan → catalog
 * → diff → ddl → apply, the same from the command line, the worker and the operator.
 *
 * One builder at a time works on a capture schema (an advisory lock); who waits for it looks again
 * before doing anything. An unchanged database costs the catalog query and no lock.
 */
import type pg from "pg";
import type { CaptureSpec } from "../core/api/capture.ts";
import { statementsFor } from "../core/capture/ddl.ts";
import { type CaptureAction, type CaptureDiff, diffCapture } from "../core/capture/diff.ts";
import { dropEventTrigger } from "../core/capture/event-triggers.ts";
import { captureFingerprint, digest } from "../core/capture/fingerprint.ts";
import {
  type Finding,
  type ObservedCatalog,
  type SchemaChangeMode,
  type TableFailure,
  tableText,
} from "../core/capture/model.ts";
import { type CaptureNames, captureNames } from "../core/capture/names.ts";
import { fillPlaceholders } from "../core/capture/placeholders.ts";
import { type CapturePlan, captureEntries, planCapture, schemaChangeMode } from "../core/capture/plan.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { applyActions } from "./apply.ts";
import { withBuildLock } from "./build-lock.ts";
import { readCatalog } from "./catalog.ts";
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
}

export interface BuildOptions {
  /** plan: look only. */
  readonly mode: "apply" | "plan";
  readonly signal?: AbortSignal;
  /** Does nothing unless the last build was of this spec and by this version: a worker that is being replaced must not undo it. */
  readonly onlyIfCurrent?: boolean;
  /** Called when something is about to be changed, once nothing speaks against it. */
  readonly beforeApply?: () => Promise<void>;
  /** Called at the end with the build's connection, to read on. */
  readonly inspect?: (client: pg.Client) => Promise<void>;
  /** Told after each action that was applied. */
  readonly onAction?: (action: CaptureAction) => void;
}

export interface BuildReport {
  /** Something was changed, or in mode `plan` would be. */
  readonly changed: boolean;
  readonly actions: readonly CaptureAction[];
  /** The SQL of the actions, a transaction each. */
  readonly sql: readonly string[];
  readonly failures: readonly TableFailure[];
  readonly findings: readonly Finding[];
  /** Tables captured now. */
  readonly tables: number;
  readonly serverVersion: string;
  readonly schemaChangeMode: SchemaChangeMode;
  readonly specHash: string;
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
    await options.inspect?.(client);
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
    const catalog = await readCatalog(client, names);
    refuse(catalog, request, names);
    const plan = planCapture(request.capture, catalog.relations);
    const stale = options.onlyIfCurrent === true && !isCurrent(catalog, request);
    const diff = stale ? { actions: [] } : diffCapture(desired(request, plan, catalog), catalog);
    return { catalog, plan, diff };
  };
  const first = await look();
  if (first.diff.actions.length === 0 || options.mode === "plan") return report(first, names, request, []);
  refuseBesideAncestor(first.catalog);
  await options.beforeApply?.();
  const context = {
    client,
    names,
    sources: sqlSources(),
    settings,
    signal: options.signal,
    onAction: options.onAction ?? (() => undefined),
  };
  return withBuildLock({ settings, names, signal: options.signal }, async () => {
    const found = await look(); // another build may have done it meanwhile
    const failures = await applyActions(context, found.diff.actions);
    return report(found, names, request, failures);
  });
}

function desired(request: BuildRequest, plan: CapturePlan, catalog: ObservedCatalog) {
  const sources = sqlSources();
  const { schemaName, context } = request.capture;
  return {
    owner: request.owner,
    tables: plan.tables,
    callbacks: request.callbacks,
    migrations: [...sources.migrations.keys()],
    functionsHash: digest(fillPlaceholders(sources.functions, captureNames(schemaName), context)),
    context,
    schemaChangeMode: schemaChangeMode(request.capture.schemaChanges, catalog),
    captureTables: captureEntries(request.capture),
    specHash: captureFingerprint(request.capture, request.callbacks),
    version: request.version,
    epoch: request.epoch ?? null,
  };
}

function isCurrent({ installation }: ObservedCatalog, request: BuildRequest): boolean {
  const specHash = captureFingerprint(request.capture, request.callbacks);
  return installation?.specHash === specHash && installation.version === request.version;
}

/** What must be right before anything is changed. */
function refuse(catalog: ObservedCatalog, request: BuildRequest, names: CaptureNames): void {
  const { installation } = catalog;
  if (catalog.readOnly) {
    throw new PgEventsError("PGE_DATABASE_READ_ONLY", "The server is a replica or read-only.", {
      reason: "DatabaseReadOnly",
      remedy: "Connect to the primary.",
      disposition: "retry",
    });
  }
  if (installation === null && catalog.schemaInUse) {
    throw new PgEventsError(
      "PGE_SCHEMA_IN_USE",
      `Schema ${names.schemaName} holds something that is not, or not a whole, capture.`,
      {
        reason: "OwnershipConflict",
        remedy: "Choose another spec.capture.schemaName, or drop the schema.",
        disposition: "retry",
      },
    );
  }
  if (installation !== null && installation.owner !== request.owner) {
    throw new PgEventsError(
      "PGE_OWNERSHIP_CONFLICT",
      `Schema ${names.schemaName} of this database belongs to ${installation.owner}, not to ${request.owner}.`,
      {
        reason: "OwnershipConflict",
        remedy: "Give this source a spec.capture.schemaName of its own, or remove the other one first.",
        disposition: "retry",
      },
    );
  }
  if (installation !== null && request.epoch !== undefined && request.epoch < Number(installation.epoch)) {
    throw new PgEventsError("PGE_STALE_BUILDER", "A newer operator has built since; this one must not.", {
      disposition: "retry",
    });
  }
}

function report(
  found: { catalog: ObservedCatalog; plan: CapturePlan; diff: CaptureDiff },
  names: CaptureNames,
  request: BuildRequest,
  applyFailures: readonly TableFailure[],
): BuildReport {
  const { catalog, plan, diff } = found;
  const failed = new Set(applyFailures.map(({ table }) => table));
  const sources = sqlSources();
  return {
    changed: diff.actions.length > 0,
    actions: diff.actions,
    sql: diff.actions.map(
      (action) => `begin;\n${statementsFor(action, names, sources).join(";\n")};\ncommit;`,
    ),
    failures: [...plan.failures, ...applyFailures],
    findings: [...plan.findings, ...ancestorFinding(catalog)],
    tables: plan.tables.filter((table) => !table.isPartition && !failed.has(tableText(table))).length,
    serverVersion: catalog.serverVersion,
    schemaChangeMode: schemaChangeMode(request.capture.schemaChanges, catalog),
    specHash: captureFingerprint(request.capture, request.callbacks),
  };
}

/** The event triggers of the Python package fail on the tables that a build makes. */
function refuseBesideAncestor({ ancestor, installation }: ObservedCatalog): void {
  const { eventTriggers } = ancestor;
  const complete = [...sqlSources().migrations.keys()].every((version) =>
    installation?.migrations.includes(version),
  );
  if (eventTriggers.length === 0 || complete) return;
  throw new PgEventsError(
    "PGE_ANCESTOR_PRESENT",
    `The event triggers of the Python package pg_events (${eventTriggers.join(", ")}) are in this database, and no table can be made beside them.`,
    {
      reason: "BuildFailed",
      remedy: `Drop them first, as docs/migrating-from-pg-events.md says: ${eventTriggers.map(dropEventTrigger).join("; ")}.`,
      disposition: "retry",
    },
  );
}

function ancestorFinding({ ancestor }: ObservedCatalog): Finding[] {
  if (ancestor.tables === 0) return [];
  const message = `The triggers of the Python package pg_events are still on tables (${ancestor.tables}), and slow every write; docs/migrating-from-pg-events.md says how to remove them.`;
  return [{ message }];
}
