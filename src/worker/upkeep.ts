/** What one worker does beside relaying: the health of the outbox, watch of the schema, gauges. */
import type { Pool } from "pg";
import type { PgEventSource } from "../core/api/source.ts";
import { describeBacklog, type ReachedLimit } from "../core/capture/backlog.ts";
import { SCHEMA_CHANGE_MODES } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { hasLane } from "../core/delivery/lanes.ts";
import { describeError } from "../core/errors.ts";
import { keepOutbox } from "../postgres/backlog.ts";
import { clockSkewSeconds } from "../postgres/clock.ts";
import { withPoolClient } from "../postgres/connect.ts";
import { readDeliveryStatus, readLosses } from "../postgres/delivery-status.ts";
import { readInstallation } from "../postgres/installation.ts";
import { schemaFingerprint } from "../postgres/schema-watch.ts";
import type { WakeUp } from "../postgres/wake-up.ts";
import type { Logger } from "../runtime/log.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import type { WorkerMetrics } from "./metrics.ts";
import { pause } from "./pause.ts";
import type { Relay } from "./relay.ts";

const SCHEMA_WATCH_MS = 3000;
const OUTBOX_MS = 5000;
const GAUGES_MS = 10_000;
/** Seconds by which clocks may differ before it is told: receivers refuse signatures after some minutes. */
const CLOCK_SKEW_SECONDS = 60;

export interface UpkeepOptions {
  readonly source: PgEventSource;
  readonly pool: Pool;
  readonly names: CaptureNames;
  readonly keeper: LeaseKeeper;
  readonly metrics: WorkerMetrics;
  readonly wakeUp: WakeUp;
  readonly rebuild: (() => Promise<void>) | null;
  readonly log: Logger;
}

/** Runs until the signal. A task that fails is tried again in its next round. */
export async function startUpkeep(options: UpkeepOptions, signal: AbortSignal): Promise<void> {
  let fingerprint: string | null = null;
  const watchSchema = async (rebuild: () => Promise<void>): Promise<void> => {
    const now = await schemaFingerprint(options.pool);
    if (fingerprint === now) return;
    await rebuild(); // the first look, too: what changed while no worker ran
    fingerprint = await schemaFingerprint(options.pool);
  };
  const { rebuild } = options;
  await Promise.all([
    everyRound(OUTBOX_MS, "keeping the outbox", options, signal, outboxRound(options)),
    rebuild === null
      ? undefined
      : everyRound(SCHEMA_WATCH_MS, "watching the schema", options, signal, () => watchSchema(rebuild)),
    everyRound(GAUGES_MS, "reading the delivery status", options, signal, () => setGauges(options), false),
    everyRound(GAUGES_MS, "comparing clocks", options, signal, clockRound(options), false),
  ]);
}

/** @param alone only the worker that holds the first callback's first lane does it; each one where all are suspended */
async function everyRound(
  milliseconds: number,
  what: string,
  options: UpkeepOptions,
  signal: AbortSignal,
  task: () => Promise<void>,
  alone = true,
): Promise<void> {
  const active = options.source.spec.callbacks.filter(({ suspend }) => !suspend);
  const first = active.map(({ name }) => name).sort()[0];
  while (!signal.aborted) {
    const relays = options.keeper.relays;
    if (
      !alone ||
      first === undefined ||
      relays.some((relay) => relay.callback === first && isFirstOf(relay))
    ) {
      await task().catch((error: unknown) =>
        options.log.warn({ what, error: describeError(error) }, "upkeep failed, trying again"),
      );
    }
    await pause(milliseconds, signal);
  }
}

/** One of several workers that share a callback: the one with its first lane. */
function isFirstOf({ leases }: Relay): boolean {
  return leases.some(({ lanes }) => hasLane(lanes, 0));
}

function outboxRound({ source, pool, names, metrics, log }: UpkeepOptions): () => Promise<void> {
  const { capture } = source.spec;
  let told: ReachedLimit | null = null;
  return async () => {
    const report = await withPoolClient(pool, async (client) => {
      const kept = await keepOutbox(client, names, capture);
      const { pausedSince, skippedChanges } = await readLosses(client, names);
      metrics.capturePaused.set(pausedSince === null ? 0 : 1);
      metrics.skippedChanges.reset();
      metrics.skippedChanges.inc(skippedChanges);
      return kept;
    });
    const { moved, opened, emptied, dropped, capture: change, skipped, backlog, reached } = report;
    if (moved) log.warn({}, "the database was copied to another server: positions were renewed");
    if (opened !== null || emptied.length > 0) log.info({ opened, emptied }, "outbox rotated");
    if (dropped.length > 0) log.warn({ dropped }, "events were dropped: the outbox was at its limit");
    if (change === "Paused") log.warn({}, "capture is paused: the outbox is at its limit, changes are lost");
    if (change === "Resumed") log.warn({}, "capture goes on; the table loss says what was not captured");
    if (skipped > 0)
      log.warn({ skipped }, "changes could not be captured, and are lost; the PostgreSQL log says why");
    if (reached !== null && reached !== told)
      log.warn(
        { limit: describeBacklog(reached, capture.backlog, backlog), bytes: backlog.bytes },
        "the outbox is at its limit",
      );
    told = reached;
    metrics.outboxBytes.set(backlog.bytes);
    for (const limit of ["Bytes", "Age"]) metrics.limitReached.set({ limit }, limit === reached ? 1 : 0);
    const suspended = source.spec.callbacks.filter(({ suspend }) => suspend || source.spec.suspend);
    await setPending(
      { pool, names, metrics },
      suspended.map(({ name }) => name),
    );
  };
}

/** Order, leases and the times in events are the database's; what a signature says, and the lag, are this machine's. */
function clockRound({ pool, metrics, log }: UpkeepOptions): () => Promise<void> {
  let told = false;
  return async () => {
    const seconds = await clockSkewSeconds(pool);
    metrics.clockSkew.set(seconds);
    const differs = Math.abs(seconds) > CLOCK_SKEW_SECONDS;
    if (differs && !told)
      log.warn(
        { seconds: Math.round(seconds) },
        "this machine's clock is not the database's: receivers may refuse signatures, and the lag in metrics is wrong",
      );
    told = differs;
  };
}

async function setGauges({ pool, names, keeper, metrics, wakeUp, source }: UpkeepOptions): Promise<void> {
  metrics.wakeUpMode.set({ mode: "listen" }, wakeUp.polls ? 0 : 1);
  metrics.wakeUpMode.set({ mode: "poll" }, wakeUp.polls ? 1 : 0);
  const schemaChanges = (await readInstallation(pool, names))?.schemaChangeMode;
  for (const mode of SCHEMA_CHANGE_MODES)
    metrics.schemaChangeMode.set({ mode }, mode === schemaChanges ? 1 : 0);
  const held = new Map(keeper.relays.map((relay) => [relay.callback, relay]));
  for (const { name: callback } of source.spec.callbacks) {
    const relay = held.get(callback);
    metrics.held.set({ callback }, relay === undefined ? 0 : 1);
    metrics.heldLanes.set({ callback }, relay?.state.lanes ?? 0);
    metrics.inFlight.set({ callback }, relay?.state.inFlight ?? 0);
    // Another worker tells of it from now on.
    if (relay !== undefined && !isFirstOf(relay))
      for (const gauge of [
        metrics.pending,
        metrics.oldestAge,
        metrics.lostEvents,
        metrics.parked,
        metrics.resending,
      ])
        gauge.remove({ callback });
  }
  const firsts = [...held.values()].filter(isFirstOf);
  await setPending(
    { pool, names, metrics },
    firsts.map(({ callback }) => callback),
  );
}

/** Of callbacks that this worker relays, and of those that nobody does. */
async function setPending(
  { pool, names, metrics }: Pick<UpkeepOptions, "pool" | "names" | "metrics">,
  callbacks: readonly string[],
): Promise<void> {
  const delivery = await readDeliveryStatus(pool, names, callbacks);
  for (const { name: callback, pending, parked, resending, oldestAgeSeconds, lostEvents } of delivery) {
    metrics.parked.set({ callback }, parked);
    metrics.resending.set({ callback }, resending);
    metrics.pending.set({ callback }, pending);
    metrics.oldestAge.set({ callback }, oldestAgeSeconds);
    metrics.lostEvents.set({ callback }, lostEvents);
  }
}
