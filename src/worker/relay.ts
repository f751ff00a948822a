/**
 * Relays a callback's events, or those of some of its lanes, while this worker holds the leases: loops over
 * one RelayState (core/delivery). Reading keeps a bounded number of events ahead; sending is driven by
 * outcomes and one timer, with no wait for an event in between; the position is stored again and again.
 *
 * The relay sends nothing after its leases may have ended: `extendTrust` moves that time on.
 */
import type { CallbackSpec } from "../core/api/callback.ts";
import { backoffMs } from "../core/delivery/backoff.ts";
import { undelivered } from "../core/delivery/crossing.ts";
import type { Entry, ParkedEvent, ReadEvent, Unit } from "../core/delivery/entry.ts";
import { wantedEvents } from "../core/delivery/filter.ts";
import { countLanes, hasLane, joinLanes, LANES } from "../core/delivery/lanes.ts";
import { comparePositions, leastPosition, type Position } from "../core/delivery/position.ts";
import { RelayState } from "../core/delivery/relay-state.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent } from "../core/event.ts";
import type { Lease } from "../postgres/callback-lease.ts";
import type { OutboxReader } from "../postgres/outbox.ts";
import type { RelayStore } from "../postgres/relay-store.ts";
import type { WakeUp } from "../postgres/wake-up.ts";
import type { Logger } from "../runtime/log.ts";
import { Checkpoints } from "./checkpoints.ts";
import { Crossings } from "./crossings.ts";
import type { CallbackMetrics } from "./metrics.ts";
import { OutboxCursor } from "./outbox-cursor.ts";
import { Parking } from "./parking.ts";
import { type Found, Reading } from "./reading.ts";
import { Resends } from "./resends.ts";
import { retryDatabase } from "./retry-database.ts";
import { WantedRows } from "./wanted-rows.ts";

/**
 * Requests acknowledged while the position is not stored, above which sending waits: with the 16 in flight that are
 * the default, a crash repeats 76 at most.
 */
const MAX_UNSTORED = 60;
/** Events of one callback that may lie parked, over all of its lanes. */
const MAX_PARKED = 100_000;
/** A dead letter at once, as nothing but a change of the row helps. */
const UNREADABLE: AttemptOutcome = {
  kind: "permanent",
  code: "unreadable",
  message:
    "the row holds characters or bytes that UTF-8 has no form for; find them in the database, and correct the row",
};

export interface RelayDependencies {
  readonly callback: CallbackSpec;
  readonly transport: Transport;
  readonly reader: OutboxReader;
  readonly store: RelayStore;
  readonly wakeUp: WakeUp;
  readonly metrics: CallbackMetrics;
  readonly log: Logger;
}

export class Relay {
  readonly callback: string;
  readonly leases: readonly Lease[];
  readonly #deps: RelayDependencies;
  readonly #state: RelayState;
  readonly #cursor: OutboxCursor;
  /** Others hold lanes of the callback, too, and may wait for this position. */
  readonly #shared: boolean;
  readonly #wanted: WantedRows;
  readonly #checkpoints: Checkpoints;
  readonly #crossings: Crossings;
  readonly #resends: Resends;
  readonly #parking: Parking;
  /** Leases whose own position is not reached yet: what they have delivered is passed over until then. */
  #ahead: Lease[];
  /** Aborted: no new events are read. */
  readonly #draining = new AbortController();
  /** Aborted: attempts under way end at once, nothing is written any more. */
  readonly #stopped = new AbortController();
  #trustedUntilMs: number;
  #timer: NodeJS.Timeout | null = null;
  #saved: string;
  #lastError: string | null = null;
  #settled: (() => void) | null = null;
  readonly #reading: Reading;

  /**
   * @param leases of the callback as a whole, or of parts of its lanes
   * @param parked what lies parked in these lanes, in id order
   * @param trustedUntilMs monotonic time (performance.now) until which the leases surely hold
   */
  constructor(
    deps: RelayDependencies,
    leases: readonly Lease[],
    parked: readonly ParkedEvent[],
    trustedUntilMs: number,
  ) {
    const { callback, transport } = deps;
    const { delivery } = callback;
    const start = startOf(leases);
    const lanes = joinLanes(leases);
    const shared = leases[0]?.part === 0 ? null : { callback: callback.name, lanes };
    this.#deps = deps;
    this.callback = callback.name;
    this.leases = leases;
    this.#trustedUntilMs = trustedUntilMs;
    this.#state = new RelayState(
      {
        ordering: callback.ordering,
        maxEvents: transport.maxEvents,
        maxBytes: transport.maxBytes,
        maxWaitMs: callback.batch.maxWaitMilliseconds,
        maxInFlight: delivery.maxInFlight,
        attempts: delivery.attempts,
        maxParked: Math.floor((MAX_PARKED * countLanes(lanes)) / LANES),
        backoffMs: (attempt) =>
          backoffMs(
            attempt,
            { baseMs: delivery.backoffSeconds * 1000, maxMs: delivery.maxBackoffSeconds * 1000 },
            Math.random(),
          ),
      },
      start,
      parked,
      leases.flatMap(({ passed }) => passed),
    );
    this.#ahead = leases.filter(({ position }) => comparePositions(position, start) > 0);
    this.#saved = this.#ahead.length === 0 ? stored(start, null) : "";
    this.#shared = shared !== null;
    this.#cursor = new OutboxCursor(deps.reader, start, shared);
    this.#wanted = new WantedRows({
      callback,
      metrics: deps.metrics,
      log: deps.log,
      readImages: (event) => this.#retryDatabase("reading a large row", () => deps.reader.readImages(event)),
    });
    this.#checkpoints = new Checkpoints(
      () => this.#checkpoint(),
      () => this.#pump(),
      transport.maxEvents,
    );
    this.#crossings = new Crossings({
      state: this.#state,
      positionsOfOthers: () =>
        this.#retryDatabase("reading the positions of other workers", () => deps.store.positionsOfOthers()),
      hurry: () => this.#checkpoints.hurry(),
      onCrossed: () => this.#afterOutcome(1),
    });
    this.#resends = new Resends(
      {
        feed: hasLane(lanes, 0) ? (room) => this.#feedReplay(room) : null,
        take: (limit) =>
          this.#retryDatabase("taking what is delivered again", () => deps.store.takeParked(limit)),
        left: () => this.#state.resentLeft,
        onTaken: (events) => this.#resend(events),
      },
      this.#draining.signal,
    );
    this.#parking = new Parking({
      callback: callback.name,
      state: this.#state,
      store: (...what) => this.#retryDatabase("parking events", () => deps.store.park(...what)),
      lastError: () => this.#lastError,
      onParked: () => this.#afterOutcome(1),
      onNotStored: () => this.#lose(),
      log: deps.log,
    });
    this.#reading = new Reading(
      {
        state: this.#state,
        wakeUp: deps.wakeUp,
        batchWaitMs: transport.maxEvents > 1 ? callback.batch.maxWaitMilliseconds : 0,
        read: () => this.#retryDatabase("reading the outbox", () => this.#read()),
      },
      this.#draining.signal,
    );
    this.#pump();
  }

  /** The leases were renewed: they surely hold until then (performance.now). */
  extendTrust(untilMs: number): void {
    this.#trustedUntilMs = untilMs;
  }

  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  /** A lease is gone: the keeper drops this relay. */
  get lost(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** Several leases are at one position, and may become one. */
  get converged(): boolean {
    return this.leases.length > 1 && this.#ahead.length === 0;
  }

  get state(): {
    failing: boolean;
    lastError: string | null;
    pending: number;
    inFlight: number;
    lanes: number;
  } {
    const failing = this.#state.failing;
    return {
      failing,
      lastError: failing ? this.#lastError : null,
      pending: this.#state.pending,
      inFlight: this.#state.inFlight,
      lanes: countLanes(joinLanes(this.leases)),
    };
  }

  /** Ends at once: a lease is lost or the process must go. Nothing more is sent or written. */
  async stop(): Promise<void> {
    this.#draining.abort();
    this.#stopped.abort();
    this.#wakeAll();
    await Promise.allSettled([
      this.#reading.end(),
      this.#resends.end(),
      this.#crossings.end(),
      this.#checkpoints.end(),
    ]);
    await this.#deps.transport.close();
  }

  /**
   * Reads and sends nothing new, waits for attempts under way, and stores the position with what is done beyond
   * it; the leases stay. It waits for no other worker, which may wait for what this one is to take. After
   * `timeoutMs` whatever is left, a database that does not answer included, is given up.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining.abort();
    this.#wakeAll();
    const { signal: stopped } = this.#stopped;
    const timer = setTimeout(() => {
      this.#stopped.abort();
      this.#wakeAll();
    }, timeoutMs);
    await Promise.all([this.#reading.end(), this.#resends.end(), this.#crossings.end()]);
    while (!stopped.aborted && (this.#state.inFlight > 0 || this.#parking.underWay)) {
      await new Promise<void>((resolve) => {
        this.#settled = resolve;
      });
    }
    await this.#checkpoints.end();
    await this.#noteBeyond();
    clearTimeout(timer);
    await this.stop();
  }

  async #noteBeyond(): Promise<void> {
    const passed = this.#state.passedBeyond();
    if (passed.length === 0) return;
    const what = "storing what is done beyond the position";
    if ((await this.#retryDatabase(what, () => this.#deps.store.noteBeyond(passed))) === false) this.#lose();
  }

  async #read(): Promise<Found | null> {
    const read = await this.#cursor.read();
    if (this.#stopped.signal.aborted) return null;
    if (read === null) return { events: 0, current: true };
    const rows = await this.#wanted.of(
      this.#ahead.length === 0 ? read.rows : undelivered(read.rows, this.leases),
    );
    if (rows === null || this.#stopped.signal.aborted) return null;
    this.#state.add(read.snapshot, rows, read.complete, performance.now(), this.#wanted.wants);
    if (this.#shared) this.#checkpoints.note(1);
    if (read.rows.length > 0) this.#afterOutcome(0);
    return { events: read.rows.length, current: read.current };
  }

  /** There may be events to be delivered again. */
  lookForResends(): void {
    this.#resends.nudge();
  }

  #feedReplay(room: number): Promise<boolean | null> {
    const { store, callback } = this.#deps;
    return this.#retryDatabase("reading for a replay", () => store.feedReplay(wantedEvents(callback), room));
  }

  /** What was taken goes into the order; of a replay only what the filter wants. */
  async #resend(events: readonly ReadEvent[]): Promise<void> {
    const replayed = events.filter(({ event }) => event.resent?.replay && this.#wanted.wants(event));
    const wanted = new Set(await this.#wanted.of(replayed));
    if (this.#stopped.signal.aborted) return;
    for (const one of events) {
      if (one.event.resent?.replay && !wanted.has(one)) this.#state.passOver(one.event);
      else this.#state.restore({ ...one, attempts: 0 });
    }
    this.#afterOutcome(1);
  }

  #pump(): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = null;
    }
    if (this.#draining.signal.aborted) return;
    const nowMs = performance.now();
    const maxUnstored = MAX_UNSTORED * this.#deps.transport.maxEvents;
    while (nowMs < this.#trustedUntilMs && this.#checkpoints.unstored < maxUnstored) {
      const unit = this.#state.next(nowMs);
      if (unit === null) break;
      this.#send(unit);
    }
    this.#parking.begin(nowMs);
    this.#crossings.follow(this.#draining.signal);
    if (this.#checkpoints.unstored >= maxUnstored) return; // it goes on when they are stored
    const dueMs = this.#state.dueMs(nowMs);
    if (dueMs === null) return;
    // Without trust in the lease nothing may be sent; look again soon, it may have been renewed.
    const waitMs = nowMs < this.#trustedUntilMs ? Math.max(1, dueMs - nowMs) : Math.max(250, dueMs - nowMs);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#pump();
    }, waitMs);
  }

  #send(unit: Unit): void {
    const entries = this.#state.payload(unit);
    if (entries.some(({ deferred }) => deferred)) void this.#sendDeferred(unit, entries);
    else
      this.#deliver(
        unit,
        entries.map(({ event }) => event),
      );
  }

  async #sendDeferred(unit: Unit, entries: readonly Entry[]): Promise<void> {
    const absent = entries.filter(({ deferred }) => deferred);
    const whole = await this.#retryDatabase("reading large rows", () => this.#deps.store.readWhole(absent));
    if (whole === null) return;
    const events = entries
      .map((entry) => (entry.deferred ? whole.get(entry.id) : entry.event))
      .filter((event) => event !== undefined);
    if (events.length > 0) return this.#deliver(unit, events);
    // Dropped at the outbox's limit, and counted there: the position moves on as if they had been sent.
    this.#state.gone(unit, performance.now());
    this.#afterOutcome(1);
  }

  #deliver(unit: Unit, events: readonly ChangeEvent[]): void {
    const { transport, metrics } = this.#deps;
    const startedMs = performance.now();
    const attempt = events.some(({ unreadable }) => unreadable)
      ? Promise.resolve(UNREADABLE)
      : transport.deliver(events, this.#stopped.signal);
    void attempt.then((outcome) => {
      if (this.#stopped.signal.aborted) return;
      const nowMs = performance.now();
      metrics.attempted(outcome, events, (nowMs - startedMs) / 1000);
      this.#settle(unit, outcome, nowMs);
    });
  }

  #settle(unit: Unit, outcome: AttemptOutcome, nowMs: number): void {
    if (outcome.kind !== "acknowledged") this.#noteFailure(outcome);
    const parked = unit.entries.find((entry) => entry.parked);
    const settled = this.#state.settle(unit, outcome, nowMs);
    if (settled.kind === "bury") {
      void this.#bury(unit, settled, outcome.kind === "permanent" && outcome !== UNREADABLE);
      return;
    }
    if (parked !== undefined && settled.kind === "waiting") this.#noteAttempts(parked, unit);
    if (this.#shared && unit.entries.some(({ awaited }) => awaited)) this.#checkpoints.hurry();
    this.#afterOutcome(unit.entries.length);
  }

  async #bury(
    unit: Unit,
    { entry, attempts, error }: { entry: Entry; attempts: number; error: string },
    refused: boolean,
  ): Promise<void> {
    const { store, metrics, log, callback } = this.#deps;
    const { id, transactionId } = entry.event;
    const letter = {
      transactionId,
      id,
      attempts,
      error,
      letterOf: entry.event.resent?.letter?.callback ?? "",
    };
    const forward = callback.deadLetterCallback ?? null;
    const stored = await this.#retryDatabase("storing a dead letter", () => store.bury(letter, forward));
    if (stored === null) return;
    if (stored) {
      metrics.buried(refused);
      log.warn({ callback: this.callback, eventId: id, attempts, error }, "event became a dead letter");
    }
    this.#state.buried(unit, performance.now());
    this.#afterOutcome(1);
  }

  #noteFailure(outcome: Exclude<AttemptOutcome, { kind: "acknowledged" }>): void {
    const error = `${outcome.code}: ${outcome.message}`;
    const first = !this.#state.failing;
    this.#lastError = error;
    if (first) this.#deps.log.warn({ callback: this.callback, error }, "delivery failed");
  }

  /** How often it was tried matters after a crash only; that it is tried once more than allowed is no harm. */
  #noteAttempts({ id }: Entry, { attempts }: Unit): void {
    this.#deps.store.noteAttempts(id, attempts, this.#lastError ?? "").catch(() => undefined);
  }

  #afterOutcome(events: number): void {
    if (events > 0) this.#checkpoints.note(events);
    this.#reading.goOn();
    this.#pump();
    if (this.#draining.signal.aborted) this.#settled?.();
  }

  async #checkpoint(): Promise<void> {
    const position = this.#state.position();
    const done = this.#state.takeUnparked();
    const standsBefore = this.#state.standsBefore();
    const text = stored(position, standsBefore);
    if (text === this.#saved && done.length === 0) return;
    const reached = this.#ahead.filter((lease) => comparePositions(position, lease.position) >= 0);
    const leases = this.leases.filter((lease) => !this.#ahead.includes(lease) || reached.includes(lease));
    const saved = await this.#retryDatabase("storing the position", () =>
      this.#deps.store.checkpoint(position, standsBefore, leases, done),
    );
    if (saved === null) return;
    if (!saved) return this.#lose();
    this.#ahead = this.#ahead.filter((lease) => !reached.includes(lease));
    this.#saved = text;
  }

  #lose(): void {
    if (this.#stopped.signal.aborted) return;
    this.#deps.log.warn({ callback: this.callback }, "lease lost: another worker relays what this one did");
    this.#stopped.abort();
    this.#draining.abort();
    this.#wakeAll();
  }

  #retryDatabase<T>(what: string, operation: () => Promise<T>): Promise<T | null> {
    return retryDatabase(what, operation, {
      signal: this.#stopped.signal,
      callback: this.callback,
      onFailure: () => this.#deps.metrics.databaseFailed(),
      log: this.#deps.log,
    });
  }

  #wakeAll(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#settled?.();
  }
}

function stored(position: Position, standsBefore: string | null): string {
  return JSON.stringify([position, standsBefore]);
}

/** The position before which everything is done in all lanes. */
function startOf(leases: readonly Lease[]): Position {
  return leastPosition(leases.map(({ position }) => position)) as Position;
}
