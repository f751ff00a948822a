/** What one worker does beside relaying: rotation of the outbox, watch of the schema, gauges. */
import type { Pool } from "pg";
import type { PgEventSource } from "../core/api/source.ts";
import { SCHEMA_CHANGE_MODES } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { describeError } from "../core/errors.ts";
import { readDeliveryStatus } from "../postgres/delivery-status.ts";
import { readInstallation } from "../postgres/installation.ts";
import { schemaFingerprint } from "../postgres/schema-watch.ts";
import { rotateSegments } from "../postgres/segments.ts";
import type { WakeUp } from "../postgres/wake-up.ts";
import type { Logger } from "../runtime/log.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import type { WorkerMetrics } from "./metrics.ts";
import { pause } from "./pause.ts";

const SCHEMA_WATCH_MS = 3000;
const ROTATION_MS = 15_000;
const GAUGES_MS = 10_000;

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
  const retentionSeconds = options.source.spec.capture.retentionSeconds;
  let fingerprint: string | null = null;
  const watchSchema = async (rebuild: () => Promise<void>): Promise<void> => {
    const now = await schemaFingerprint(options.pool);
    if (fingerprint === now) return;
    await rebuild(); // the first look, too: what changed while no worker ran
    fingerprint = await schemaFingerprint(options.pool);
  };
  const { rebuild } = options;
  await Promise.all([
    everyRound(ROTATION_MS, "rotating the outbox", options, signal, async () => {
      const { opened, emptied } = await rotateSegments(options.pool, options.names, retentionSeconds);
      if (opened !== null || emptied.length > 0) options.log.info({ opened, emptied }, "outbox rotated");
    }),
    rebuild === null
      ? undefined
      : everyRound(SCHEMA_WATCH_MS, "watching the schema", options, signal, () => watchSchema(rebuild)),
    everyRound(GAUGES_MS, "reading the delivery status", options, signal, () => setGauges(options), false),
  ]);
}

/** @param alone only the worker that holds the first callback does it */
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
    if (!alone || options.keeper.relays.some(({ callback }) => callback === first)) {
      await task().catch((error: unknown) =>
        options.log.warn({ what, error: describeError(error) }, "upkeep failed, trying again"),
      );
    }
    await pause(milliseconds, signal);
  }
}

async function setGauges({ pool, names, keeper, metrics, wakeUp, source }: UpkeepOptions): Promise<void> {
  metrics.wakeUpMode.set({ mode: "listen" }, wakeUp.pooled ? 0 : 1);
  metrics.wakeUpMode.set({ mode: "poll" }, wakeUp.pooled ? 1 : 0);
  const schemaChanges = (await readInstallation(pool, names))?.schemaChangeMode;
  for (const mode of SCHEMA_CHANGE_MODES)
    metrics.schemaChangeMode.set({ mode }, mode === schemaChanges ? 1 : 0);
  const held = new Map(keeper.relays.map((relay) => [relay.callback, relay]));
  for (const { name } of source.spec.callbacks) metrics.held.set({ callback: name }, held.has(name) ? 1 : 0);
  for (const { name, pending, oldestAgeSeconds } of await readDeliveryStatus(pool, names, [...held.keys()])) {
    metrics.pending.set({ callback: name }, pending);
    metrics.oldestAge.set({ callback: name }, oldestAgeSeconds);
    metrics.inFlight.set({ callback: name }, held.get(name)?.state.inFlight ?? 0);
  }
}
