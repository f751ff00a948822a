/**
 * Reconciles one source: reads everything, does what is missing, writes down what is true. Idempotent;
 * the request is a key and nothing else. observe (Secrets, database, Deployment) → act (build, apply)
 * → assess (pure, core/reconcile) → status.
 */
import { isDeepStrictEqual } from "node:util";
import { CONDITION_TYPES, type Reason } from "../core/api/conditions.ts";
import { parsePgEventSource } from "../core/api/parse.ts";
import type { PgEventSource } from "../core/api/source.ts";
import type { PgEventSourceStatus } from "../core/api/status.ts";
import { captureNames } from "../core/capture/names.ts";
import { describeError, PgEventsError } from "../core/errors.ts";
import {
  assess,
  assessInvalid,
  type Observed,
  type ObservedBuild,
  type Problem,
  type Step,
} from "../core/reconcile/assess.ts";
import { captureOwner } from "../core/reconcile/worker-deployment.ts";
import { type DatabaseSettings, databaseFromSecret } from "../core/settings/database.ts";
import { isNotFound } from "../kubernetes/api-error.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { buildCapture } from "../postgres/build.ts";
import { type CallbackDelivery, readDeliveryStatus } from "../postgres/delivery-status.ts";
import { addFinalizer, finalize } from "./finalize.ts";
import { type ResolvedSecrets, resolveSecrets } from "./secrets.ts";
import { ensureWorker } from "./worker.ts";
import { assertMayWrite, SOURCES_API, STATUS_MANAGER, tell, type World } from "./world.ts";

/** Milliseconds until the next look while pods start and callbacks are taken over. */
const SETTLING_MS = 3000;
/** Milliseconds until the next look at a source that waits for somebody to change something. */
const UNREADY_MS = 20_000;
/** An authentication that failed is not tried again before that: no lock-out loop. */
export const AUTHENTICATION_RETRY_MS = 30_000;
const RECONCILIATION = "pgevents.dev/reconciliation";

type Source = KubernetesObject & { readonly status?: PgEventSourceStatus };

/** The database could not be used: the status says why, and the queue backs off. */
export class DatabaseUnavailable extends Error {
  readonly reason: Reason;

  constructor(reason: Reason) {
    super(`database unavailable: ${reason}`);
    this.reason = reason;
  }
}

/** @returns milliseconds until the next look, or null when only a change matters @throws what the queue should back off for */
export async function reconcile(world: World, key: string, signal: AbortSignal): Promise<number | null> {
  const object = world.source(key) as Source | undefined;
  if (object === undefined) {
    const [namespace = "", name = ""] = key.split("/");
    world.metrics.forget(namespace, name, Object.keys(CONDITION_TYPES));
    return null;
  }
  if (object.metadata.annotations?.[RECONCILIATION] === "disabled") return null;
  const parsed = parse(object, key);
  if (object.metadata.deletionTimestamp !== undefined) {
    await finalize(world, object, parsed instanceof PgEventsError ? null : parsed, signal);
    return null;
  }
  if (parsed instanceof PgEventsError) {
    await writeStatus(
      world,
      object,
      assessInvalid(object.metadata.generation ?? 0, parsed.message, object.status, now()),
      signal,
    );
    return null;
  }
  const observed = await observeAndAct(world, object, parsed, signal);
  const status = assess(observed, object.status, now(), world.options.version);
  await writeStatus(world, object, status, signal);
  if (observed.database?.ok === false) throw new DatabaseUnavailable(observed.database.reason);
  return nextLook(world, status);
}

function parse(object: Source, key: string): PgEventSource | PgEventsError {
  try {
    return parsePgEventSource(object, key);
  } catch (error) {
    if (error instanceof PgEventsError) return error;
    throw error;
  }
}

async function observeAndAct(
  world: World,
  object: Source,
  source: PgEventSource,
  signal: AbortSignal,
): Promise<Observed> {
  const nothing: Omit<Observed, "credentials"> = {
    source,
    database: null,
    build: null,
    deployment: liveOf(world, object),
    delivery: null,
  };
  const { namespace = "", uid = "" } = object.metadata;
  const secrets = await resolveSecrets(source.spec, {
    client: world.client,
    namespace,
    requireLabel: world.options.requireSecretLabel,
    hashKey: uid,
    signal,
  });
  if ("ok" in secrets) return { ...nothing, credentials: secrets };
  const settings = settingsOf(source, secrets);
  if ("ok" in settings) return { ...nothing, credentials: settings };
  const credentials: Step = { ok: true, message: "Every Secret was found." };
  const { database, build, delivery } = await lookAtDatabase(world, object, source, settings, signal);
  // Workers are made once there is capture; those that exist are kept right whatever the database does.
  const worker = build !== null && !("ok" in build) ? true : nothing.deployment !== null;
  const deployment = worker ? await ensureWorker(world, object, source, secrets.hash, signal) : null;
  return { source, credentials, database, build, deployment, delivery };
}

function liveOf(world: World, { metadata }: Source): Observed["deployment"] {
  const live = world.deployment(`${metadata.namespace}/${metadata.name}`);
  const ours = live?.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid) === true;
  return ours ? (live as NonNullable<Observed["deployment"]>) : null;
}

function settingsOf(source: PgEventSource, secrets: ResolvedSecrets): DatabaseSettings | Problem {
  const { database } = source.spec;
  if (database === undefined)
    return { ok: false, reason: "InvalidSpec", message: "spec.database is required." };
  try {
    return databaseFromSecret(database, secrets.read);
  } catch (error) {
    return problemOf(error, "SecretInvalid");
  }
}

/** Reasons that speak of the connection, not of the build. */
const CONNECTION_REASONS: readonly Reason[] = [
  "ConnectionFailed",
  "AuthenticationFailed",
  "DatabaseReadOnly",
];

async function lookAtDatabase(
  world: World,
  object: Source,
  source: PgEventSource,
  settings: DatabaseSettings,
  signal: AbortSignal,
): Promise<Pick<Observed, "database" | "build" | "delivery">> {
  const { capture, callbacks } = source.spec;
  const names = callbacks.map(({ name }) => name);
  let delivery: CallbackDelivery[] = [];
  const { namespace: source_namespace = "", name } = object.metadata;
  try {
    const report = await buildCapture(
      settings,
      {
        capture,
        callbacks: names,
        owner: captureOwner(source),
        epoch: world.epoch(),
        version: world.options.version,
      },
      {
        mode: "apply",
        signal,
        beforeApply: async () => {
          await addFinalizer(world, object, signal);
          assertMayWrite(world);
        },
        inspect: async (client) => {
          delivery = await readDeliveryStatus(client, captureNames(capture.schemaName), names);
        },
      },
    );
    if (report.changed) {
      world.metrics.builds.inc({ source_namespace, source: name, result: "changed" });
      tell(world, object, {
        type: "Normal",
        reason: "Built",
        message: `Capture was built. Tables: ${report.tables}.`,
      });
    }
    return {
      database: { ok: true, message: `PostgreSQL ${report.serverVersion}.` },
      build: report satisfies ObservedBuild,
      delivery,
    };
  } catch (error) {
    if (!(error instanceof PgEventsError)) throw error;
    const problem = problemOf(error, "BuildFailed");
    world.metrics.builds.inc({ source_namespace, source: name, result: "failed" });
    if (CONNECTION_REASONS.includes(problem.reason))
      return { database: problem, build: null, delivery: null };
    return { database: { ok: true, message: "Connected." }, build: problem, delivery: null };
  }
}

function problemOf(error: unknown, otherwise: Reason): Problem {
  const reason =
    error instanceof PgEventsError ? ((error.reason as Reason | undefined) ?? otherwise) : otherwise;
  return { ok: false, reason, message: describeError(error) };
}

/** Writes the status if it differs, and tells of a change of Ready. */
async function writeStatus(
  world: World,
  object: Source,
  status: PgEventSourceStatus,
  signal: AbortSignal,
): Promise<void> {
  const { namespace = "", name, uid } = object.metadata;
  world.metrics.conditions(namespace, name, status);
  if (isDeepStrictEqual(object.status, status)) return;
  assertMayWrite(world);
  const body = {
    apiVersion: "pgevents.dev/v1alpha1",
    kind: "PgEventSource",
    metadata: { name, namespace, uid },
    status,
  };
  try {
    await world.client.apply(
      objectPath(SOURCES_API, namespace, "pgeventsources", name, "status"),
      body,
      STATUS_MANAGER,
      { signal },
    );
  } catch (error) {
    if (!isNotFound(error)) throw error;
    return;
  }
  const before = readyOf(object.status);
  const after = readyOf(status);
  if (after === undefined || before?.reason === after.reason || after.reason === "Pending") return;
  const settling = after.reason === "WaitingForWorker" || after.reason === "DeploymentUpdating";
  if (settling) return;
  const type = after.status === "True" || after.reason === "Suspended" ? "Normal" : "Warning";
  const reason = before?.reason === "Suspended" && after.status === "True" ? "Resumed" : after.reason;
  tell(world, object, { type, reason, message: after.message });
}

function readyOf(status: PgEventSourceStatus | undefined) {
  return status?.conditions?.find(({ type }) => type === "Ready");
}

function nextLook(world: World, status: PgEventSourceStatus): number {
  const ready = readyOf(status);
  const settling =
    ready?.reason === "WaitingForWorker" ||
    ready?.reason === "DeploymentUpdating" ||
    ready?.reason === "Pending";
  if (settling) return SETTLING_MS;
  if (ready?.status !== "True" && ready?.reason !== "Suspended")
    return UNREADY_MS * (0.9 + Math.random() * 0.2);
  return world.options.resyncSeconds * 1000 * (0.9 + Math.random() * 0.2);
}

function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
