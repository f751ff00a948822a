/** Keeps the worker Deployment of a source as it has to be. */
import { isDeepStrictEqual } from "node:util";
import type { EventReason } from "../core/api/conditions.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { digest } from "../core/capture/fingerprint.ts";
import { matches } from "../core/reconcile/matches.ts";
import type { Observed, ObservedDeployment, Problem } from "../core/reconcile/observed.ts";
import { SECRETS_HASH, workerDeployment } from "../core/reconcile/worker-deployment.ts";
import { isNotFound, KubernetesApiError } from "../kubernetes/api-error.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { assertMayWrite, DEPLOYMENTS_API, FIELD_MANAGER, tell, type World } from "./world.ts";

type Deployment = KubernetesObject &
  ObservedDeployment & {
    readonly spec?: {
      readonly selector?: object;
      readonly template?: { readonly metadata?: { readonly annotations?: Record<string, string> } };
    };
  };

/** Characters of the API server's answer that go into a message. */
const MAX_REFUSAL = 500;

/** Applies the Deployment if it is not there or differs; leaves alone what belongs to somebody else. */
export async function ensureWorker(
  world: World,
  object: KubernetesObject,
  source: PgEventSource,
  secretsHash: string,
  signal: AbortSignal,
): Promise<ObservedDeployment | Problem> {
  const { namespace = "", name, uid } = source.metadata;
  const path = objectPath(DEPLOYMENTS_API, namespace, "deployments", name);
  const live = await liveDeployment(world, `${namespace}/${name}`, path, signal);
  if (
    live !== null &&
    live.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.controller === true) !== true
  ) {
    return {
      ok: false,
      reason: "NameConflict",
      message: `A Deployment ${name} exists and does not belong to this PgEventSource.`,
    };
  }
  const { workerImage: image, imagePullPolicy, version, proxy } = world.options;
  const wanted = workerDeployment(source, { image, imagePullPolicy, version, secretsHash, proxy });
  const key = `${namespace}/${name}`;
  const intent = digest(JSON.stringify(wanted));
  if (live !== null && !isDeepStrictEqual(live.spec?.selector, wanted.spec.selector)) {
    await removeUnselected(world, object, live, path, signal);
  }
  // What we wanted once and want no longer is only taken away by applying again.
  if (live !== null && world.applied.get(key) === intent && matches(wanted, live)) return live;
  assertMayWrite(world);
  try {
    const applied = await world.client.apply<Deployment>(path, wanted, FIELD_MANAGER, { signal });
    world.applied.set(key, intent);
    tellOfChange(world, object, live, applied);
    return applied;
  } catch (error) {
    if (!(error instanceof KubernetesApiError) || ![400, 403, 422].includes(error.status)) throw error;
    return {
      ok: false,
      reason: "DeploymentFailed",
      message: `The API server refused Deployment ${name}: ${error.message.slice(0, MAX_REFUSAL)}`,
    };
  }
}

/** Applying what is there already changes nothing, and then there is nothing to tell. */
function tellOfChange(
  world: World,
  object: KubernetesObject,
  live: Deployment | null,
  applied: Deployment,
): void {
  const { name, generation, uid } = applied.metadata;
  const event = (reason: EventReason, message: string) =>
    tell(world, object, { type: "Normal", reason, message });
  if (live === null || live.metadata.uid !== uid) {
    event("DeploymentCreated", `Worker Deployment ${name} was created.`);
  } else if (live.metadata.generation === generation) {
    return;
  } else if (secretsHashOf(live) !== secretsHashOf(applied)) {
    event("SecretRotated", "Workers are replaced, as a Secret has changed.");
  } else {
    event("DeploymentUpdated", `Worker Deployment ${name} was updated.`);
  }
}

/** The selector is the one field that cannot be changed: another version of the operator may have had another. */
async function removeUnselected(
  world: World,
  object: KubernetesObject,
  { metadata: { name, uid } }: Deployment,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  assertMayWrite(world);
  await world.client.delete(path, { body: { preconditions: { uid } }, signal }).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
  world.metrics.deploymentsReplaced.inc();
  const message = `Worker Deployment ${name} is made anew, as its selector is another one now.`;
  tell(world, object, { type: "Normal", reason: "DeploymentUpdated", message });
}

export function secretsHashOf(deployment: Observed["deployment"]): string | undefined {
  return (deployment as Deployment | null)?.spec?.template?.metadata?.annotations?.[SECRETS_HASH];
}

/** The copy, or a look at the server: a Deployment that lost its label is not among the copies. */
async function liveDeployment(
  world: World,
  key: string,
  path: string,
  signal: AbortSignal,
): Promise<Deployment | null> {
  const copy = world.deployment(key) as Deployment | undefined;
  if (copy !== undefined) return copy;
  try {
    return await world.client.get<Deployment>(path, { signal });
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}
