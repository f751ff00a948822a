/**
 * The worker: relays the change events of one PgEventSource to its callbacks until it is told to
 * stop. Any number of workers may run; they share out the lanes of each callback (lease-keeper.ts).
 * One of them, the holder of the first callback's first lane, also rotates the outbox and renews capture when the
 * database schema changes.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Client, Pool } from "pg";
import type { Registry } from "prom-client";
import type { PgEventSource } from "../core/api/source.ts";
import { type CaptureNames, captureNames } from "../core/capture/names.ts";
import type { Transport } from "../core/delivery/transport.ts";
import { describeError, PgEventsError } from "../core/errors.ts";
import type { EventOrigin } from "../core/event.ts";
import { originOf } from "../core/event-origin.ts";
import { CallbackLeases, type Lease } from "../postgres/callback-lease.ts";
import { type Installation, readInstallation } from "../postgres/installation.ts";
import { OutboxReader } from "../postgres/outbox.ts";
import { RelayStore } from "../postgres/relay-store.ts";
import { endAtOnce } from "../postgres/silent-connections.ts";
import { WakeUp } from "../postgres/wake-up.ts";
import type { Logger } from "../runtime/log.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { WorkerMetrics } from "./metrics.ts";
import { pause } from "./pause.ts";
import { Relay } from "./relay.ts";
import { startUpkeep } from "./upkeep.ts";

/** Seconds between looks for a build that has not been made yet. */
const NOT_BUILT_RETRY_SECONDS = 3;
/** Milliseconds beyond the time to drain in which a worker gives its leases back. */
const GOODBYE_MS = 2000;

export interface WorkerOptions {
  readonly source: PgEventSource;
  /** A pool for reads, checkpoints and leases; the worker ends it. */
  readonly pool: Pool;
  /** A connection of its own for LISTEN. */
  readonly connect: () => Promise<Client>;
  readonly createTransport: (
    callback: PgEventSource["spec"]["callbacks"][number],
    origin: EventOrigin,
  ) => Transport;
  /** Renews capture after a change of the schema; absent when the manifest switches that off. */
  readonly rebuild: (() => Promise<void>) | null;
  readonly registry: Registry;
  readonly log: Logger;
  /** Milliseconds attempts under way have to finish once the worker is told to stop. */
  readonly drainTimeoutMs: number;
}

export interface WorkerHealth {
  /** The last round of leases reached the database. */
  readonly ready: () => boolean;
}

/** Runs until `signal`; then drains and resolves. */
export async function runWorker(
  options: WorkerOptions,
  signal: AbortSignal,
  onHealth?: (health: WorkerHealth) => void,
): Promise<void> {
  const { source, pool, log } = options;
  const names = captureNames(source.spec.capture.schemaName);
  const metrics = new WorkerMetrics(options.registry);
  const connection = new ConnectionState(metrics, log);
  onHealth?.({ ready: () => connection.up });
  pool.on("error", () => undefined); // idle connections may end; the next query gets a new one

  const installation = await untilBuilt(pool, names, connection, log, signal);
  if (installation === null) return pool.end();
  log.info({ schemaChanges: installation.schemaChangeMode }, "capture found");
  const origin = originOf(source, installation.id);

  const wakeUp = new WakeUp(options.connect, names, (error) => {
    metrics.databaseReconnects.inc();
    log.warn({ error: describeError(error) }, "wake-up connection lost");
  });
  await wakeUp.open().catch(() => undefined); // arm() tries again
  const leases = new CallbackLeases(pool, names);
  const reader = new OutboxReader(pool, names);
  const active = source.spec.suspend ? [] : source.spec.callbacks.filter((callback) => !callback.suspend);

  const startRelay = async (held: readonly Lease[], trustedUntilMs: number): Promise<Relay> => {
    const callback = active.find(({ name }) => name === held[0]?.callback);
    if (callback === undefined) throw new Error(`no callback ${held[0]?.callback}`);
    const store = new RelayStore(pool, names, reader, held);
    const parked = await store.readParked();
    const transport = options.createTransport(callback, origin);
    const deps = {
      callback,
      transport,
      reader,
      store,
      wakeUp,
      metrics: metrics.forCallback(callback.name),
      log,
    };
    return new Relay(deps, held, parked, trustedUntilMs);
  };
  const keeper = new LeaseKeeper({
    leases,
    callbacks: active,
    holderId: `${hostname()}_${randomUUID()}`,
    session: () => wakeUp.session,
    startRelay,
    onRound: (error) => connection.note(error),
    log,
  });
  wakeUp.onLanesChanged(() => {
    keeper.nudge();
    for (const relay of keeper.relays) relay.lookForResends();
  });
  let lateTimer: NodeJS.Timeout | undefined;
  const limitTheEnd = () => {
    lateTimer = setTimeout(() => {
      log.warn({}, "the database does not answer: its connections are cut");
      endAtOnce(pool);
      void wakeUp.close();
    }, options.drainTimeoutMs + GOODBYE_MS);
  };
  signal.addEventListener("abort", limitTheEnd, { once: true });
  const upkeep = startUpkeep({ ...options, names, keeper, metrics, wakeUp }, signal);
  await keeper.run(signal);
  log.info({}, "draining");
  await keeper.drain(options.drainTimeoutMs);
  await upkeep;
  await wakeUp.close();
  if (!pool.ending) await pool.end();
  clearTimeout(lateTimer);
  log.info({}, "worker stopped");
}

/** Whether the database answers; logs each change once, and each other reason why it does not. */
class ConnectionState {
  up = false;
  /** What was last told; empty while it answers, null at first. */
  #told: string | null = null;
  readonly #metrics: WorkerMetrics;
  readonly #log: Logger;

  constructor(metrics: WorkerMetrics, log: Logger) {
    this.#metrics = metrics;
    this.#log = log;
  }

  note(error: unknown | null): void {
    this.up = error === null;
    const text = error === null ? "" : describeError(error);
    if (text === this.#told) return;
    this.#told = text;
    this.#metrics.databaseUp.set(this.up ? 1 : 0);
    if (this.up) this.#log.info({}, "database answers");
    else this.#log.warn({ error: text }, "database does not answer, trying again");
  }
}

/** Waits until capture is built, and reads what it is; null when told to stop before. */
async function untilBuilt(
  pool: Pool,
  names: CaptureNames,
  connection: ConnectionState,
  log: Logger,
  signal: AbortSignal,
): Promise<Installation | null> {
  for (let told = false; !signal.aborted; ) {
    try {
      const installation = await readInstallation(pool, names);
      connection.note(null);
      if (installation !== null) return installation;
      if (!told) log.warn({ error: describeError(notBuilt(names.schema)) }, "waiting for a build");
      told = true;
    } catch (error) {
      connection.note(error);
    }
    await pause(NOT_BUILT_RETRY_SECONDS * 1000, signal);
  }
  return null;
}

function notBuilt(schema: string): PgEventsError {
  return new PgEventsError("PGE_NOT_BUILT", `The database has no capture in schema ${schema}.`, {
    remedy: "Run `pg-events build` with the same manifest; the worker goes on by itself then.",
    disposition: "retry",
  });
}
