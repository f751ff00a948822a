/**
 * The end of a source. Capture is removed from the database before the finalizer goes; a Secret that is
 * gone, or a database that stays away beyond the deadline, does not hold the deletion for ever.
 */
import type { PgEventSource } from "../core/api/source.ts";
import { captureNames } from "../core/capture/names.ts";
import { describeError, PgEventsError } from "../core/errors.ts";
import { assessBlocked } from "../core/reconcile/assess.ts";
import { nextCleanupMs } from "../core/reconcile/schedule.ts";
import { captureOwner } from "../core/reconcile/worker-deployment.ts";
import { databaseFromSecret } from "../core/settings/database.ts";
import { isNotFound } from "../kubernetes/api-error.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { removeCapture } from "../postgres/removal.ts";
import { resolveSecrets } from "./secrets.ts";
import { writeSource } from "./source-write.ts";
import { now, type Source, writeStatus } from "./status.ts";
import { assertMayWrite, DEPLOYMENTS_API, FIELD_MANAGER, FINALIZER, tell, type World } from "./world.ts";

/** Milliseconds between looks at workers that end; their end is told by the watch, too. */
const WORKERS_MS = 2000;
/** Seconds that ending workers may take beyond their grace period. */
const WORKERS_LATE_SECONDS = 10;

/** Puts our finalizer on an object that has none of ours yet. @throws Error when it is gone: nothing may be made for it */
export async function addFinalizer(
  world: World,
  object: KubernetesObject,
  signal: AbortSignal,
): Promise<void> {
  if (object.metadata.finalizers?.includes(FINALIZER)) return;
  const written = await applyFinalizers(world, object, [FINALIZER], signal);
  if (written === null) throw new Error("the source is gone");
}

/**
 * Removes what was built, then lets go of the source.
 * @returns milliseconds until the next attempt when that is not possible yet, else null
 */
export async function finalize(
  world: World,
  object: Source,
  source: PgEventSource | null,
  signal: AbortSignal,
): Promise<number | null> {
  if (!object.metadata.finalizers?.includes(FINALIZER)) return null;
  const result = source === null ? "orphaned" : await cleanUp(world, object, source, signal);
  if (typeof result === "number") return result;
  world.metrics.cleanups.inc({ result });
  if (result === "orphaned") {
    const message = "Capture may be left in the database; docs/operations.md says how to remove it by hand.";
    tell(world, object, { type: "Warning", reason: "CaptureObjectsOrphaned", message });
  }
  await applyFinalizers(world, object, [], signal);
  return null;
}

async function cleanUp(
  world: World,
  object: Source,
  source: PgEventSource,
  signal: AbortSignal,
): Promise<"cleaned" | "retained" | "orphaned" | number> {
  const workersLeft = await deleteWorker(world, object, signal);
  if (source.spec.deletionPolicy === "Retain") return "retained";
  if (workersLeft && !workersAreLate(object, source)) return WORKERS_MS;
  if (source.spec.capture.install === "Manual") {
    const { schema } = captureNames(source.spec.capture.schemaName);
    const message = `spec.capture.install is Manual, so capture is left in the database, and writers go on filling its outbox. Remove it: drop schema ${schema} cascade;`;
    tell(world, object, { type: "Warning", reason: "CaptureLeft", message });
    return "retained";
  }
  try {
    const settings = await settingsOf(world, object, source, signal);
    if (settings === null) return "orphaned";
    assertMayWrite(world);
    await removeCapture(settings, {
      schemaName: source.spec.capture.schemaName,
      owner: captureOwner(source),
    });
    tell(world, object, {
      type: "Normal",
      reason: "CleanedUp",
      message: "Capture was removed from the database.",
    });
    return "cleaned";
  } catch (error) {
    if (error instanceof PgEventsError && error.code === "PGE_OWNERSHIP_CONFLICT") return "cleaned"; // never was ours
    if (!(error instanceof PgEventsError) || signal.aborted) throw error;
    const { deletionTimestamp, generation = 0 } = object.metadata;
    const againMs = nextCleanupMs(deletionTimestamp, source.spec.deletionDeadlineSeconds, Date.now());
    if (againMs === 0) return "orphaned";
    const message = describeError(error);
    await writeStatus(world, object, assessBlocked(generation, message, object.status, now()), signal);
    return againMs;
  }
}

/** Null when a Secret is gone for good, as in a namespace that is being deleted. */
async function settingsOf(
  world: World,
  object: KubernetesObject,
  source: PgEventSource,
  signal: AbortSignal,
) {
  const { database } = source.spec;
  if (database === undefined) return null;
  const secrets = await resolveSecrets(
    { ...source.spec, callbacks: [] },
    {
      client: world.client,
      namespace: object.metadata.namespace ?? "",
      requireLabel: false,
      hashKey: "",
      signal,
    },
  );
  if (!("ok" in secrets)) return databaseFromSecret(database, secrets.read);
  if (secrets.reason === "SecretNotFound") return null;
  throw new PgEventsError("PGE_SECRET_INVALID", secrets.message, { reason: secrets.reason });
}

/**
 * Workers go first, and in good order, so that none of them works against the removal. The Deployment
 * stays until its pods are gone (deletion in the foreground), so that we can see that.
 * @returns whether it is still there
 */
async function deleteWorker(world: World, object: KubernetesObject, signal: AbortSignal): Promise<boolean> {
  const { namespace = "", name, uid } = object.metadata;
  const live = world.deployment(`${namespace}/${name}`);
  if (live?.metadata.ownerReferences?.some((owner) => owner.uid === uid) !== true) return false;
  if (live.metadata.deletionTimestamp !== undefined) return true;
  assertMayWrite(world);
  const path = objectPath(DEPLOYMENTS_API, namespace, "deployments", name);
  await world.client
    .delete(path, { query: { propagationPolicy: "Foreground" }, signal })
    .catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  return true;
}

/** Pods on a node that does not answer stay for minutes: the removal does not wait for those. */
function workersAreLate({ metadata }: KubernetesObject, { spec }: PgEventSource): boolean {
  const sinceMs = Date.now() - Date.parse(metadata.deletionTimestamp ?? "");
  return !(sinceMs < (spec.worker.terminationGracePeriodSeconds + WORKERS_LATE_SECONDS) * 1000);
}

/** Server-side apply of the one entry: other finalizers stay, and no read-modify-write can lose them. */
function applyFinalizers(
  world: World,
  object: KubernetesObject,
  finalizers: string[],
  signal: AbortSignal,
): Promise<KubernetesObject | null> {
  const write = { fieldManager: FIELD_MANAGER, part: { metadata: { finalizers } } };
  return writeSource(world, object, write, signal);
}
