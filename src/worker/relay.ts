/**
 * Relays one callback's events while this worker holds its lease: three loops over one RelayState
 * (core/delivery). Reading keeps a bounded number of events ahead; sending is driven by outcomes and
 * one timer, with no wait for an event in between; the checkpoint is written over and over while
 * acknowledgements come in, one write at a time, so that a crash repeats few events.
 *
 * The relay sends nothing after its lease may have ended: `extendTrust` moves that time on.
 */
import type { CallbackSpec } from "../core/api/callback.ts";
import { backoffMs } from "../core/delivery/backoff.ts";
import { type EventFilter, eventFilter } from "../core/delivery/filter.ts";
import { type ReadEvent, RelayState, type Unit } from "../core/delivery/relay-state.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent } from "../core/event.ts";
import type { AcquiredLease, CallbackLeases } from "../postgres/callback-lease.ts";
import type { OutboxReader } from "../postgres/outbox.ts";
import type { WakeUp } from "../postgres/wake-up.ts";
import type { Logger } from "../runtime/log.ts";
import type { CallbackMetrics } from "./metrics.ts";
import { OutboxCursor } from "./outbox-cursor.ts";
import { pause } from "./pause.ts";

/** Events read and not done, above which reading waits. */
const READ_AHEAD = 2000;
/** Events behind the oldest that is not done, above which reading waits: a failing key holds back no more. */
const MAX_SPAN = 50_000;
/** Longest wait for a wake-up; a wake-up is a hint and may be lost. */
const SAFETY_POLL_MS = 5000;
/** Longest wait between reads while writers are at work but nothing has been committed. */
const POLL_MS = 50;
/** The same where wake-ups do not work: behind a transaction pooler, or beside two-phase commit. */
const POOLED_POLL_MS = 500;
/** A position that moved by nothing but others' transactions is stored this often. */
const IDLE_CHECKPOINT_MS = 10_000;
/** Problems of a filter's expression that are logged; each once. */
const MAX_FILTER_PROBLEMS = 20;
/** Milliseconds before the same database operation is tried again; doubles to the second number. */
const DATABASE_RETRY_MS = [100, 5000] as const;

export interface RelayDependencies {
  readonly callback: CallbackSpec;
  readonly transport: Transport;
  readonly reader: OutboxReader;
  readonly leases: CallbackLeases;
  readonly storeDeadLetter: (letter: DeadLetter) => Promise<boolean>;
  readonly wakeUp: WakeUp;
  readonly metrics: CallbackMetrics;
  readonly log: Logger;
}

export interface DeadLetter {
  readonly callback: string;
  readonly transactionId: string;
  readonly id: string;
  readonly attempts: number;
  readonly error: string;
}

export class Relay {
  readonly callback: string;
  readonly term: string;
  readonly #deps: RelayDependencies;
  readonly #state: RelayState;
  readonly #cursor: OutboxCursor;
  readonly #filter: EventFilter;
  /** Aborted: no new events are read or sent. */
  readonly #draining = new AbortController();
  /** Aborted: attempts under way end at once, nothing is written any more. */
  readonly #stopped = new AbortController();
  #trustedUntilMs: number;
  #timer: NodeJS.Timeout | null = null;
  #acknowledged = false;
  #saved: string;
  #savedAtMs = 0;
  #lastError: string | null = null;
  /** Why the filter's expression could not say, as far as it was logged. */
  readonly #unfiltered = new Set<string>();
  #room: (() => void) | null = null;
  #idle: (() => void) | null = null;
  #progressed: (() => void) | null = null;
  readonly #loops: Promise<void>[];

  /** @param trustedUntilMs monotonic time (performance.now) until which the lease surely holds */
  constructor(deps: RelayDependencies, lease: AcquiredLease, trustedUntilMs: number) {
    const { callback } = deps;
    this.#deps = deps;
    this.callback = callback.name;
    this.term = lease.term;
    this.#trustedUntilMs = trustedUntilMs;
    this.#state = new RelayState(
      {
        ordering: callback.ordering,
        maxEvents: deps.transport.maxEvents,
        maxBytes: deps.transport.maxBytes,
        maxWaitMs: callback.batch.maxWaitMilliseconds,
        maxInFlight: callback.delivery.maxInFlight,
        attempts: callback.delivery.attempts,
        backoffMs: (attempt) =>
          backoffMs(
            attempt,
            {
              baseMs: callback.delivery.backoffSeconds * 1000,
              maxMs: callback.delivery.maxBackoffSeconds * 1000,
            },
            Math.random(),
          ),
      },
      lease.position,
    );
    this.#saved = JSON.stringify(lease.position);
    this.#cursor = new OutboxCursor(deps.reader, lease.position);
    this.#filter = eventFilter(callback, (problem) => this.#noteUnfiltered(problem));
    this.#loops = [this.#readLoop(), this.#checkpointLoop()];
  }

  /** The lease was renewed: it surely holds until then (performance.now). */
  extendTrust(untilMs: number): void {
    this.#trustedUntilMs = untilMs;
  }

  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  get state(): { failing: boolean; lastError: string | null; pending: number; inFlight: number } {
    const failing = this.#state.failing;
    return {
      failing,
      lastError: failing ? this.#lastError : null,
      pending: this.#state.pending,
      inFlight: this.#state.inFlight,
    };
  }

  /** Ends at once: the lease is lost or the process must go. Nothing more is sent or written. */
  async stop(): Promise<void> {
    this.#draining.abort();
    this.#stopped.abort();
    this.#wakeAll();
    await Promise.allSettled(this.#loops);
    await this.#deps.transport.close();
  }

  /**
   * Reads and sends nothing new, waits for attempts under way, stores the position; the lease stays. After
   * `timeoutMs` whatever is left, a database that does not answer included, is given up.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining.abort();
    this.#wakeAll();
    const { signal: stopped } = this.#stopped;
    const timer = setTimeout(() => this.#stopped.abort(), timeoutMs);
    while (this.#state.inFlight > 0 && !stopped.aborted) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        stopped.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    await Promise.allSettled(this.#loops);
    await this.#retryDatabase("storing the checkpoint", () => this.#save());
    clearTimeout(timer);
    await this.stop();
  }

  async #readLoop(): Promise<void> {
    const { wakeUp } = this.#deps;
    const signal = this.#draining.signal;
    for (let inVain = 0; !signal.aborted; ) {
      if (this.#state.pending >= READ_AHEAD || this.#state.span >= MAX_SPAN) {
        await this.#untilRoom();
        continue;
      }
      const armed = wakeUp.armed;
      const found = await this.#retryDatabase("reading the outbox", () => this.#read());
      if (found === null) return;
      if (found) {
        inVain = 0;
      } else if (armed > 0 && armed === wakeUp.armed) {
        await wakeUp.wait(SAFETY_POLL_MS, signal);
        inVain = 0;
      } else if (!(await wakeUp.arm())) {
        const limit = wakeUp.polls ? POOLED_POLL_MS : POLL_MS;
        await wakeUp.wait(Math.min(limit, 2 ** Math.min(inVain, 16)), signal);
        inVain += 1;
      }
    }
  }

  async #read(): Promise<boolean> {
    const read = await this.#cursor.read();
    if (read === null || this.#stopped.signal.aborted) return false;
    const rows = await this.#wantedRows(read.rows);
    if (rows === null || this.#stopped.signal.aborted) return false;
    this.#state.add(read.snapshot, rows, read.complete, performance.now(), this.#filter.wants);
    if (read.rows.length > 0) this.#pump();
    return read.rows.length > 0 || !read.complete;
  }

  /** Asks the filter's expression; the images of large rows are read for that, one after the other, and not kept. */
  async #wantedRows(rows: readonly ReadEvent[]): Promise<readonly ReadEvent[] | null> {
    const { wants, wantsRow } = this.#filter;
    if (wantsRow === null) return rows;
    const wanted: ReadEvent[] = [];
    for (const row of rows) {
      if (!wants(row.event)) continue;
      const event = row.deferred
        ? await this.#retryDatabase("reading a large row", () => this.#deps.reader.readImages(row.event))
        : row.event;
      if (event === null) return null;
      if (event !== undefined && wantsRow(event)) wanted.push(row);
    }
    return wanted;
  }

  #noteUnfiltered(problem: string): void {
    this.#deps.metrics.unfiltered();
    if (this.#unfiltered.has(problem) || this.#unfiltered.size >= MAX_FILTER_PROBLEMS) return;
    this.#unfiltered.add(problem);
    this.#deps.log.warn(
      { callback: this.callback, problem },
      "the filter's expression cannot say of an event, which is delivered",
    );
  }

  #untilRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#room = resolve;
    });
  }

  #pump(): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = null;
    }
    const nowMs = performance.now();
    while (!this.#draining.signal.aborted && nowMs < this.#trustedUntilMs) {
      const unit = this.#state.next(nowMs);
      if (unit === null) break;
      void this.#attempt(unit);
    }
    if (this.#draining.signal.aborted) return;
    const dueMs = this.#state.dueMs(nowMs);
    if (dueMs === null) return;
    // Without trust in the lease nothing may be sent; look again soon, it may have been renewed.
    const waitMs = nowMs < this.#trustedUntilMs ? Math.max(1, dueMs - nowMs) : Math.max(250, dueMs - nowMs);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#pump();
    }, waitMs);
  }

  async #attempt(unit: Unit): Promise<void> {
    const entries = this.#state.payload(unit);
    let events: ChangeEvent[] = entries.map((entry) => entry.event);
    if (entries.some((entry) => entry.deferred)) {
      const images = () =>
        Promise.all(
          entries.map((entry) => (entry.deferred ? this.#deps.reader.readImages(entry.event) : entry.event)),
        );
      const read = await this.#retryDatabase("reading large rows", images);
      if (read === null) return;
      events = read.filter((event) => event !== undefined);
      // Dropped at the outbox's limit, and counted there: the position moves on as if they had been sent.
      if (events.length === 0) return this.#settle(unit, { kind: "acknowledged", code: "dropped" });
    }
    const startedMs = performance.now();
    const outcome = await this.#deps.transport.deliver(events, this.#stopped.signal);
    if (this.#stopped.signal.aborted) return;
    this.#deps.metrics.attempted(outcome, events, (performance.now() - startedMs) / 1000);
    await this.#settle(unit, outcome);
  }

  async #settle(unit: Unit, outcome: AttemptOutcome): Promise<void> {
    if (outcome.kind !== "acknowledged") this.#noteFailure(outcome);
    const settled = this.#state.settle(unit, outcome, performance.now());
    if (settled.kind === "bury") {
      const { entry, attempts, error } = settled;
      const { id, transactionId } = entry.event;
      const letter = { callback: this.callback, transactionId, id, attempts, error };
      const stored = await this.#retryDatabase("storing a dead letter", () =>
        this.#deps.storeDeadLetter(letter),
      );
      if (stored === null) return;
      if (stored) {
        this.#deps.metrics.buried();
        this.#deps.log.warn(
          { callback: this.callback, eventId: id, attempts, error },
          "event became a dead letter",
        );
      }
      this.#state.buried(unit, performance.now());
    }
    this.#afterOutcome();
  }

  #noteFailure(outcome: Exclude<AttemptOutcome, { kind: "acknowledged" }>): void {
    const error = `${outcome.code}: ${outcome.message}`;
    const first = !this.#state.failing;
    this.#lastError = error;
    if (first) this.#deps.log.warn({ callback: this.callback, error }, "delivery failed");
  }

  #afterOutcome(): void {
    this.#acknowledged = true;
    this.#progressed?.();
    if (this.#room !== null && this.#state.pending < READ_AHEAD / 2 && this.#state.span < MAX_SPAN) {
      this.#room();
      this.#room = null;
    }
    if (this.#idle !== null && this.#state.inFlight === 0) this.#idle();
    this.#pump();
  }

  async #checkpointLoop(): Promise<void> {
    while (!this.#draining.signal.aborted) {
      if (this.#acknowledged || performance.now() - this.#savedAtMs > IDLE_CHECKPOINT_MS) {
        const saved = await this.#retryDatabase("storing the checkpoint", () => this.#save());
        if (saved === null) return;
      }
      if (!this.#acknowledged && !this.#draining.signal.aborted) await this.#untilProgress();
    }
  }

  #untilProgress(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, IDLE_CHECKPOINT_MS);
      this.#progressed = () => {
        clearTimeout(timer);
        this.#progressed = null;
        resolve();
      };
    });
  }

  async #save(): Promise<boolean> {
    this.#acknowledged = false;
    this.#savedAtMs = performance.now();
    const position = this.#state.position();
    const text = JSON.stringify(position);
    if (text === this.#saved) return true;
    if (!(await this.#deps.leases.checkpoint(this.callback, this.term, position))) {
      this.#deps.log.warn({ callback: this.callback }, "lease lost: another worker relays this callback");
      this.#stopped.abort();
      this.#draining.abort();
      this.#wakeAll();
      return false;
    }
    this.#saved = text;
    return true;
  }

  /** The lease is gone: the keeper drops this relay. */
  get lost(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** Repeats a database operation until it succeeds; null when the relay ends before that. */
  async #retryDatabase<T>(what: string, operation: () => Promise<T>): Promise<T | null> {
    for (let waitMs: number = DATABASE_RETRY_MS[0]; ; waitMs = Math.min(waitMs * 2, DATABASE_RETRY_MS[1])) {
      if (this.#stopped.signal.aborted) return null;
      try {
        return await operation();
      } catch (error) {
        this.#deps.metrics.databaseFailed();
        this.#deps.log.warn(
          { callback: this.callback, what, sqlstate: (error as { code?: string }).code },
          "database operation failed, trying again",
        );
        await pause(waitMs * (0.5 + Math.random() / 2), this.#stopped.signal);
      }
    }
  }

  #wakeAll(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#room?.();
    this.#room = null;
    this.#progressed?.();
    this.#idle?.();
  }
}
