/**
 * Reconciles one source: reads everything, does what is missing, writes down what is true. Idempotent;
 * the request is a key and nothing else. observe (Secrets, database, Deployment) → act (build, apply)
 * → assess (pure, core/reconcile) → status.
 */
import { CONDITION_TYPES, type Reason } from "../core/api/conditions.ts";
import { prepareExpressions } from "../core/api/expressions.ts";
import { parsePgEventSource } from "../core/api/parse.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { PgEventsError } from "../core/errors.ts";
import { knownAddresses, withAddresses } from "../core/reconcile/addresses.ts";
import { assess, assessDisabled, assessFirst, assessInvalid } from "../core/reconcile/assess.ts";
import type { Observed, Problem, Step } from "../core/reconcile/observed.ts";
import { nextLookMs } from "../core/reconcile/schedule.ts";
import { type DatabaseSettings, databaseFromSecret } from "../core/settings/database.ts";
import { RefusedLogin } from "../core/settings/refused-login.ts";
import { hideSecret } from "../runtime/log.ts";
import { resolveAddresses } from "./addresses.ts";
import { BuildProgress } from "./build-progress.ts";
import { lookAtDatabase, problemOf } from "./database.ts";
import { finalize } from "./finalize.ts";
import { type ResolvedSecrets, resolveSecrets } from "./secrets.ts";
import { now, type Source, writeStatus } from "./status.ts";
import { ensureWorker, secretsHashOf } from "./worker.ts";
import type { World } from "./world.ts";

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
    world.written.delete(key);
    world.refusals.delete(key);
    return null;
  }
  const { generation = 0, annotations } = object.metadata;
  if (annotations?.[RECONCILIATION] === "disabled") {
    await writeStatus(world, object, assessDisabled(generation, object.status, now()), signal);
    return null;
  }
  const parsed = await withExpressions(parse(object, key), key);
  if (object.metadata.deletionTimestamp !== undefined) {
    return finalize(world, object, parsed instanceof PgEventsError ? removable(object, key) : parsed, signal);
  }
  if (parsed instanceof PgEventsError) {
    await writeStatus(world, object, assessInvalid(generation, parsed.message, object.status, now()), signal);
    return null;
  }
  const known =
    object.status?.conditions === undefined
      ? await writeStatus(world, object, assessFirst(generation, now()), signal)
      : object;
  const progress = new BuildProgress(world, known, signal);
  const observed = await observeAndAct(world, known, parsed, progress, signal);
  const latest = await progress.settled();
  const status = assess(observed, latest.status, now(), world.options.version);
  await writeStatus(world, latest, status, signal);
  world.metrics.suspended(object.metadata.namespace ?? "", object.metadata.name, parsed.spec.suspend);
  const { database } = observed;
  // A replica may become the primary at any moment, and is no burden meanwhile: it is looked at at the usual pace.
  if (database?.ok === false && database.reason !== "DatabaseReadOnly")
    throw new DatabaseUnavailable(database.reason);
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

async function withExpressions(
  parsed: PgEventSource | PgEventsError,
  key: string,
): Promise<PgEventSource | PgEventsError> {
  if (parsed instanceof PgEventsError) return parsed;
  try {
    await prepareExpressions(parsed, key);
    return parsed;
  } catch (error) {
    if (error instanceof PgEventsError) return error;
    throw error;
  }
}

/** What a removal needs of a source that does not parse as a whole; null when not even that does. */
function removable(object: Source, key: string): PgEventSource | null {
  const { database, deletionPolicy, deletionDeadlineSeconds, capture } = object.spec ?? {};
  const callbacks = [{ name: "none", module: { path: "none.js" } }];
  const spec = {
    database,
    deletionPolicy,
    deletionDeadlineSeconds,
    callbacks,
    capture: { schemaName: capture?.schemaName, install: capture?.install },
  };
  const parsed = parse({ ...object, spec } as unknown as Source, key);
  return parsed instanceof PgEventsError ? null : parsed;
}

async function observeAndAct(
  world: World,
  object: Source,
  source: PgEventSource,
  progress: BuildProgress,
  signal: AbortSignal,
): Promise<Observed> {
  const nothing: Omit<Observed, "credentials"> = {
    source,
    database: null,
    build: null,
    deployment: liveOf(world, object),
    delivery: null,
  };
  const { namespace = "", uid = "", generation = 0 } = object.metadata;
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
  const addresses = await resolveAddresses(world, source, nothing.deployment, signal);
  const addressed = withAddresses(source, knownAddresses(source, addresses.found, object.status));
  const login = { key: `${namespace}/${source.metadata.name}`, credentials: `${secrets.hash}/${generation}` };
  const { database, build, delivery, outbox } = await logIn(world, login, () =>
    lookAtDatabase(world, object, source, settings, progress, signal),
  );
  // Workers are made once there is capture; those that exist are kept right whatever the database does.
  // Those of this version wait for the SQL of this version where somebody else runs it.
  const built = build !== null && !("ok" in build);
  const worker = built ? build.usable : nothing.deployment !== null;
  // Credentials that the database refuses roll nothing: the pods have connections with the old ones.
  const refused = database?.ok === false && database.reason === "AuthenticationFailed";
  const hash = (refused ? secretsHashOf(nothing.deployment) : undefined) ?? secrets.hash;
  const deployment = worker ? await ensureWorker(world, object, addressed, hash, signal) : nothing.deployment;
  return { source, credentials, database, build, deployment, delivery, outbox, addresses };
}

type DatabaseLook = Awaited<ReturnType<typeof lookAtDatabase>>;

/** Looks at the database unless it has just refused these credentials. */
async function logIn(
  { refusals }: World,
  { key, credentials }: { key: string; credentials: string },
  look: () => Promise<DatabaseLook>,
): Promise<DatabaseLook> {
  const refused = refusals.get(key) ?? new RefusedLogin();
  const recent = refused.recent(credentials, performance.now());
  if (recent !== null) return { database: recent, build: null, delivery: null, outbox: null };
  const looked = await look();
  const { database } = looked;
  if (database?.ok === false && database.reason === "AuthenticationFailed") {
    refused.note(credentials, database, performance.now());
    refusals.set(key, refused);
  }
  return looked;
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
