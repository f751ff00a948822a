/** One look at a database for a build: what is there, what the spec wants, what has to be done and what is found. */
import type pg from "pg";
import { allowedActions } from "../core/capture/allowed-actions.ts";
import { type CaptureAction, type DesiredCapture, diffCapture } from "../core/capture/diff.ts";
import { driftIn } from "../core/capture/drift.ts";
import { bySeverity, type Finding, isFatal } from "../core/capture/findings.ts";
import { captureFingerprint, digest } from "../core/capture/fingerprint.ts";
import { type ObservedCatalog, type SchemaChangeMode, tableText } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { fillPlaceholders } from "../core/capture/placeholders.ts";
import { type CapturePlan, captureEntries, planCapture, schemaChangeMode } from "../core/capture/plan.ts";
import { obstacles, ownerObstacle, type PreflightInput, remarks } from "../core/capture/preflight.ts";
import { ident } from "../core/capture/quote.ts";
import type { BuildOptions, BuildRequest } from "./build.ts";
import { readCatalog } from "./catalog.ts";
import { sessionPidOf } from "./connect.ts";
import { sqlObjects, sqlSources } from "./sql-files.ts";

export interface Assessment {
  readonly catalog: ObservedCatalog;
  readonly plan: CapturePlan;
  readonly mode: SchemaChangeMode;
  /** What a build has to do. */
  readonly actions: readonly CaptureAction[];
  /** What somebody else has to do (`install: Manual`). */
  readonly pending: readonly CaptureAction[];
  /** What of the actions there is to do because others have changed capture, if spec and version are the same (`driftIn`). */
  readonly drift: readonly string[];
  /** The worst first. */
  readonly findings: readonly Finding[];
}

/** Stands for the role's name where that may not be shown. */
const ROLE = "ROLE";
/** Changes nothing but rows that a worker writes anyway. */
const OF_THE_WORKER: readonly CaptureAction["kind"][] = ["TellSchemaChanges"];

export async function assessCapture(
  client: pg.Client,
  names: CaptureNames,
  request: BuildRequest,
  options: BuildOptions,
): Promise<Assessment> {
  const { capture, workerRole } = request;
  const { settings = [], traceparent } = capture.context;
  const catalog = await readCatalog(client, names, {
    settings: traceparent === undefined ? settings : [...settings, traceparent],
    workerRole,
  });
  const plan = planCapture(capture, catalog.relations);
  const mode = schemaChangeMode(capture.schemaChanges, catalog);
  const input = preflightInput(client, names, request, options, { catalog, plan, mode });
  const found = [...obstacles(input), ...plan.findings, ...remarks(input)];
  const nothing = { catalog, plan, mode, actions: [], pending: [], drift: [] };
  const stale = options.onlyIfCurrent === true && !isCurrent(catalog, request);
  if (stale || found.some(isFatal)) return { ...nothing, findings: bySeverity(found) };
  const { actions } = diffCapture(desiredCapture(names, request, plan, mode, catalog), catalog);
  if (capture.install === "Manual") {
    const own = actions.filter(({ kind }) => OF_THE_WORKER.includes(kind));
    const pending = actions.filter((action) => !own.includes(action));
    const mayRun = catalog.installation?.workerRights === true;
    return { ...nothing, actions: mayRun ? own : [], pending, findings: bySeverity(found) };
  }
  const allowed = allowedActions(actions, catalog, names, input.role);
  const owning = allowed.actions.length === 0 ? [] : ownerObstacle(input);
  const done = owning.length > 0 ? [] : allowed.actions;
  return {
    ...nothing,
    actions: done,
    drift: driftIn(done, plan.tables, catalog, names),
    findings: bySeverity([...owning, ...found, ...allowed.findings]),
  };
}

function preflightInput(
  client: pg.Client,
  names: CaptureNames,
  { capture, owner, epoch }: BuildRequest,
  { hideRole }: BuildOptions,
  { catalog, plan, mode }: Pick<Assessment, "catalog" | "plan" | "mode">,
): PreflightInput {
  const wanted = new Set(plan.tables.filter(({ isPartition }) => !isPartition).map(tableText));
  return {
    catalog,
    capture,
    names,
    owner,
    epoch: epoch ?? null,
    role: hideRole === true ? ROLE : ident(catalog.server.role),
    captured: catalog.relations.filter((relation) => wanted.has(tableText(relation))),
    mode,
    migrations: sqlObjects(),
    sessionPid: sessionPidOf(client),
  };
}

function desiredCapture(
  names: CaptureNames,
  request: BuildRequest,
  plan: CapturePlan,
  mode: SchemaChangeMode,
  catalog: ObservedCatalog,
): DesiredCapture {
  const sources = sqlSources();
  const { capture } = request;
  const { context, onError, install } = capture;
  const functionOptions = { context, onError };
  return {
    names,
    owner: request.owner,
    tables: plan.tables,
    callbacks: request.callbacks,
    migrations: [...sources.migrations.keys()],
    functionsHash: digest(fillPlaceholders(sources.functions, names, functionOptions)),
    functionOptions,
    schemaChangeMode: mode,
    captureTables: captureEntries(capture),
    specHash: captureFingerprint(capture, request.callbacks),
    version: request.version,
    epoch: install === "Manual" ? null : (request.epoch ?? null),
    workerRole: install === "Manual" ? (request.workerRole ?? catalog.server.role) : null,
  };
}

function isCurrent({ installation }: ObservedCatalog, request: BuildRequest): boolean {
  const specHash = captureFingerprint(request.capture, request.callbacks);
  const version = request.capture.install === "Manual" || installation?.version === request.version;
  return installation?.specHash === specHash && version;
}
