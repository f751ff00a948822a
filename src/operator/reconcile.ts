/**
 * Reconciles one source: reads everything, does what is missing, writes down what is true. Idempotent;
 * the request is a key and nothing else. observe (Secrets, database, Deployment) → act (build, apply)
 * → assess (pure, core/reconcile) → status.
 */
import { CONDITION_TYPES, type Reason } from "../core/api/conditions.ts";
import { parsePgEventSource } from "../core/api/parse.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { PgEventsError } from "../core/errors.ts";
import {
  assess,
  assessDisabled,
  assessFirst,
  assessInvalid,
  type Observed,
  type Problem,
  type Step,
} from "../core/reconcile/assess.ts";
import { nextLookMs } from "../core/reconcile/schedule.ts";
import { type DatabaseSettings, databaseFromSecret } from "../core/settings/database.ts";
import { hideSecret } from "../runtime/log.ts";
import { lookAtDatabase, problemOf } from "./database.ts";
import { finalize } from "./finalize.ts";
import { type ResolvedSecrets, resolveSecrets } from "./secrets.ts";
import { now, type Source, writeStatus } from "./status.ts";
import { ensureWorker } from "./worker.ts";
import type { World } from "./world.ts";

/** An authentication that failed is not tried again before that: no lock-out loop. */
export const AUTHENTICATION_RETRY_MS = 30_000;
const RECONCILIATION = "pgevents.dev/reconciliation";

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
    world.applied.delete(key);
    return null;
  }
  const { generation = 0, annotations } = object.metadata;
  if (annotations?.[RECONCILIATION] === "disabled") {
    await writeStatus(world, object, assessDisabled(generation, object.status, now()), signal);
    return null;
  }
  const parsed = parse(object, key);
  if (object.metadata.deletionTimestamp !== undefined) {
    return finalize(world, object, parsed instanceof PgEventsError ? null : parsed, signal);
  }
  if (parsed instanceof PgEventsError) {
    await writeStatus(world, object, assessInvalid(generation, parsed.message, object.status, now()), signal);
    return null;
  }
  const known =
    object.status?.conditions === undefined
      ? await writeStatus(world, object, assessFirst(generation, now()), signal)
      : object;
  const observed = await observeAndAct(world, known, parsed, signal);
  const status = assess(observed, known.status, now(), world.options.version);
  await writeStatus(world, known, status, signal);
  world.metrics.suspended(object.metadata.namespace ?? "", object.metadata.name, parsed.spec.suspend);
  if (observed.database?.ok === false) throw new DatabaseUnavailable(observed.database.reason);
  const resyncMs = world.options.resyncSeconds * 1000;
  return nextLookMs(status, { resyncMs, nowMs: Date.now(), random: Math.random() });
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
    const settings = databaseFromSecret(database, secrets.read);
    if (settings.password !== undefined) hideSecret(settings.password); // it may be a part of a URI
    return settings;
  } catch (error) {
    return problemOf(error, "SecretInvalid");
  }
}
