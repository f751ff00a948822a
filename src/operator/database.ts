/** Looks at the database of a source and builds what is missing there, through one connection. */
import type { Reason } from "../core/api/conditions.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { captureFingerprint } from "../core/capture/fingerprint.ts";
import { captureNames } from "../core/capture/names.ts";
import { describeError, PgEventsError } from "../core/errors.ts";
import type { Observed, ObservedBuild, ObservedOutbox, Problem } from "../core/reconcile/observed.ts";
import { captureOwner } from "../core/reconcile/worker-deployment.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { keepOutbox } from "../postgres/backlog.ts";
import { type BuildReport, buildCapture } from "../postgres/build.ts";
import { type CallbackDelivery, readDeliveryStatus, readLosses } from "../postgres/delivery-status.ts";
import { type BuildProgress, Superseded } from "./build-progress.ts";
import { addFinalizer } from "./finalize.ts";
import { publishInstallSql } from "./manual-install.ts";
import type { BuildTrigger } from "./metrics.ts";
import type { Source } from "./status.ts";
import { assertMayWrite, tell, type World } from "./world.ts";

/** Places that others have changed which an event names. */
const MAX_PLACES = 5;
/** Reasons that speak of the connection, not of the build. */
const CONNECTION_REASONS: readonly Reason[] = [
  "ConnectionFailed",
  "AuthenticationFailed",
  "DatabaseReadOnly",
];

/** @throws what is not about this database, such as a lost lease */
export async function lookAtDatabase(
  world: World,
  object: Source,
  source: PgEventSource,
  settings: DatabaseSettings,
  progress: BuildProgress,
  signal: AbortSignal,
): Promise<Pick<Observed, "database" | "build" | "delivery" | "outbox">> {
  const { capture, callbacks } = source.spec;
  const names = callbacks.map(({ name }) => name);
  let delivery: CallbackDelivery[] = [];
  let outbox: ObservedOutbox | null = null;
  const { namespace: source_namespace = "", name } = object.metadata;
  const startedMs = performance.now();
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
        hideRole: true,
        signal: AbortSignal.any([signal, progress.superseded]),
        onProgress: (done) => progress.update(done),
        beforeApply: async () => {
          await addFinalizer(world, object, signal);
          assertMayWrite(world);
        },
        inspect: async (client, { usable }) => {
          if (!usable) return; // install: Manual, and nobody has run the SQL yet
          const inDatabase = captureNames(capture.schemaName);
          // Workers do it every few seconds; while none runs the limits have to hold as well.
          const { backlog, reached } = await keepOutbox(client, inDatabase, capture);
          outbox = { backlog, reached, losses: await readLosses(client, inDatabase) };
          delivery = await readDeliveryStatus(client, inDatabase, names);
        },
      },
    );
    // A new leader only writes down its epoch: nothing that anybody needs to be told.
    const changed = report.actions.some(({ kind }) => kind !== "RecordBuild");
    if (changed) {
      const trigger = triggerOf(object, report, world.options.version);
      const places = trigger === "drift" ? ` Others had changed it: ${namesOf(report.drift)}.` : "";
      world.metrics.builds.inc({ source_namespace, source: name, trigger, result: "changed" });
      world.metrics.buildSeconds.observe((performance.now() - startedMs) / 1000);
      const reason = trigger === "spec" || trigger === "upgrade" ? "Built" : "SchemaChanged";
      tell(world, object, {
        type: "Normal",
        reason,
        message: `Capture was built. Tables: ${report.tables}.${places}`,
      });
    }
    // Its end is to tell what is left in the database.
    if (capture.install === "Manual" && report.usable) await addFinalizer(world, object, signal);
    const steps = report.pending.length;
    const published = steps === 0 ? null : await publishInstallSql(world, source, report.sql, signal);
    const build: ObservedBuild | Problem =
      published !== null && typeof published !== "string"
        ? published
        : { ...report, changed, manual: published === null ? null : { steps, configMap: published } };
    return {
      database: { ok: true, message: `PostgreSQL ${report.serverVersion}.` },
      build,
      delivery: report.usable ? delivery : null,
      outbox,
    };
  } catch (error) {
    if (progress.superseded.aborted) throw new Superseded("the source was changed while it was built");
    if (!(error instanceof PgEventsError)) throw error;
    const problem = problemOf(error, "BuildFailed");
    if (CONNECTION_REASONS.includes(problem.reason))
      return { database: problem, build: null, delivery: null };
    const specHash = captureFingerprint(capture, names);
    const drift = error.code === "PGE_CAPTURE_DAMAGED" ? ["schema"] : [];
    const trigger = triggerOf(object, { specHash, drift }, world.options.version);
    world.metrics.builds.inc({ source_namespace, source: name, trigger, result: "failed" });
    return { database: { ok: true, message: "Connected." }, build: problem, delivery: null };
  }
}

/** Why something had to be built. Where neither the spec nor our version has changed: others have changed capture, or tables. */
function triggerOf(
  { status }: Source,
  { specHash, drift }: Pick<BuildReport, "specHash" | "drift">,
  version: string,
): BuildTrigger {
  if (status?.build?.specHash !== specHash) return "spec";
  if (status.build.version !== version) return "upgrade";
  const { failedTables = [] } = status.build; // nothing was changed there: it was not made yet
  return drift.some((place) => !failedTables.includes(place)) ? "drift" : "schema";
}

function namesOf(places: readonly string[]): string {
  const more = places.length - MAX_PLACES;
  return `${places.slice(0, MAX_PLACES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** The problem for a condition. */
export function problemOf(error: unknown, otherwise: Reason): Problem {
  const reason =
    error instanceof PgEventsError ? ((error.reason as Reason | undefined) ?? otherwise) : otherwise;
  return { ok: false, reason, message: describeError(error) };
}
