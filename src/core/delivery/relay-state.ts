/**
 * The state of one relay, without clock, random or I/O: what was read, what may be sent now, what waits,
 * and how far the callback is. The shell (src/worker/relay.ts) reads, sends and writes; it asks `next` what
 * to send and tells `settle` what came of it.
 *
 *   read ─► blocked (an earlier event of its key is live) ─► ready ─► in flight ─► done
 *              │                                               ▲         │
 *              │ behind a parked one                           └ waiting ┘ retryable failure
 *              ▼                                                    │    └► dead letter ─► done
 *            parked ◄──────────── fails for long, others succeed ───┘
 *
 * Parked means stored in the database: the position passes a parked event, which goes on waiting, being
 * sent and keeping its key in order as before.
 *
 * Invariants: events of one key are in flight one after the other, or together in one batch in id
 * order; an event is done only when acknowledged or durably a dead letter; the position never passes
 * an event that is neither done nor parked.
 */
import type { ChangeEvent } from "../event.ts";
import { EndpointHealth } from "./endpoint-health.ts";
import {
  type Entry,
  emptied,
  entryOf,
  NOTHING,
  type ParkedEvent,
  parkedId,
  type ReadEvent,
  type Unit,
  unitOf,
} from "./entry.ts";
import { fillBatch } from "./fill-batch.ts";
import { KeyOrder, type Ordering } from "./key-order.ts";
import { Parking } from "./parking.ts";
import type { Position } from "./position.ts";
import { Progress } from "./progress.ts";
import { ReadyQueue } from "./ready-queue.ts";
import type { AttemptOutcome } from "./transport.ts";
import { WaitingUnits } from "./waiting-units.ts";

export type Settled =
  | { readonly kind: "done" }
  /** Will be tried again; `next` returns it when its time has come. */
  | { readonly kind: "waiting" }
  /** The shell must store this event as a dead letter, then call `buried`. */
  | { readonly kind: "bury"; readonly entry: Entry; readonly attempts: number; readonly error: string };

export interface RelayOptions {
  readonly ordering: Ordering;
  readonly maxEvents: number;
  readonly maxBytes: number;
  readonly maxWaitMs: number;
  readonly maxInFlight: number;
  readonly attempts: number;
  /** Events that may be parked; then failing keys hold the position. */
  readonly maxParked: number;
  /** Milliseconds to wait before the attempt after the n-th (n from 1), jitter included. */
  readonly backoffMs: (attempt: number) => number;
}

export class RelayState {
  readonly #options: RelayOptions;
  readonly #order: KeyOrder<Entry>;
  readonly #progress: Progress<Entry>;
  readonly #health = new EndpointHealth();
  readonly #ready = new ReadyQueue<Entry>();
  readonly #waiting = new WaitingUnits();
  /** The same for parked ones. */
  readonly #waitingParked = new WaitingUnits();
  /** What is to be delivered again and has not been tried: it takes turns with what is ready. */
  readonly #resent = new ReadyQueue<Entry>();
  #resentLast = false;
  /** The unit sent last had failed before: the next probe is one that has not, or keys that fail would hold up all others. */
  #probedRetry = false;
  /** Events delivered again that are here. */
  #resentLeft = 0;
  readonly #parking: Parking;
  readonly #crossings = new Set<Entry>();
  /** Ids beyond the position that were passed before this relay began, and were not read again yet. */
  readonly #passedBefore: Set<string>;
  #readySinceMs = 0;
  #inFlight = 0;
  #eventsInFlight = 0;
  #retriesInFlight = 0;
  #unsent = 0;
  #unsentBytes = 0;
  #read = 0;

  /**
   * @param parked what lies parked, in id order
   * @param passed ids beyond `start` that an earlier relay has passed
   */
  constructor(
    options: RelayOptions,
    start: Position,
    parked: readonly ParkedEvent[] = [],
    passed: Iterable<string> = [],
  ) {
    this.#options = options;
    this.#order = new KeyOrder(options.ordering);
    this.#progress = new Progress(start);
    this.#parking = new Parking(options.maxParked, this.#order);
    this.#passedBefore = new Set(passed);
    for (const one of parked) this.restore(one);
  }

  /** Events read that are neither done nor parked. */
  get pending(): number {
    return this.#unsent;
  }

  /** Of those, the ones that are not in flight: what was read ahead. */
  get readAhead(): number {
    return this.#unsent - this.#eventsInFlight;
  }

  /** Bytes of row images in memory, those in flight among them. */
  get bytes(): number {
    return this.#unsentBytes;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Events kept in order behind the oldest that is not passed; bounds how far to read ahead. */
  get span(): number {
    return this.#progress.span;
  }

  get parked(): number {
    return this.#parking.size;
  }

  /** Events to be delivered again that are here and not done. */
  get resentLeft(): number {
    return this.#resentLeft;
  }

  /** The endpoint as a whole does not take requests, or some key fails. */
  get failing(): boolean {
    return this.#health.closed || this.#waiting.size > 0 || this.#waitingParked.size > 0;
  }

  /** What waits for other holders only: see `crossed`. */
  get crossings(): ReadonlySet<Entry> {
    return this.#crossings;
  }

  /** Adds what was read of the window that ends at `snapshot`. `wanted`: the callback's filter. */
  add(
    snapshot: string,
    rows: readonly ReadEvent[],
    complete: boolean,
    nowMs: number,
    wanted: (event: ChangeEvent) => boolean,
  ): void {
    const entries: Entry[] = [];
    for (const row of rows) {
      const passed = this.#passedBefore.size > 0 && this.#passedBefore.delete(row.event.id);
      if (!passed && (!wanted(row.event) || this.#parking.holds(row.event.id))) continue;
      const entry = entryOf(row, this.#read);
      this.#read += 1;
      entries.push(entry);
      if (passed) letGo(entry);
      else this.#unsent += 1;
    }
    this.#progress.add(snapshot, entries, complete);
    for (const entry of entries) {
      if (entry.passed) continue;
      if (!entry.deferred) this.#unsentBytes += entry.bytes;
      const tail = this.#order.add(entry, () => this.#earlierThan(entry));
      if (entry.blockers === 0) this.#release(entry, nowMs);
      else if (tail?.parked === true) this.#parking.follow(entry);
    }
  }

  /** What to send now, or null. The unit counts as in flight until `settle` or `buried`. */
  next(nowMs: number): Unit | null {
    if (this.#inFlight >= this.#options.maxInFlight || !this.#health.mayStart(nowMs)) return null;
    const untried = this.#health.closed && this.#probedRetry ? this.#takeReady(nowMs) : null;
    const unit = untried ?? this.#takeWaiting(nowMs) ?? this.#takeResent() ?? this.#takeReady(nowMs);
    if (unit === null) return null;
    unit.flight = { events: this.payload(unit).length, retry: isRetry(unit) };
    this.#probedRetry = unit.flight.retry;
    this.#inFlight += 1;
    this.#eventsInFlight += unit.flight.events;
    if (unit.flight.retry) this.#retriesInFlight += 1;
    this.#health.started();
    return unit;
  }

  /** When `next` can return something by time alone; null when only an outcome or a read changes that. */
  dueMs(nowMs: number): number | null {
    if (this.#inFlight >= this.#options.maxInFlight) return null;
    const ready =
      this.#ready.size > 0 ? this.#readySinceMs + this.#options.maxWaitMs : Number.POSITIVE_INFINITY;
    const resent = this.#resent.size > 0 && this.#mayRetry() ? nowMs : Number.POSITIVE_INFINITY;
    const due = Math.min(this.#retryDueMs(), ready, resent);
    if (due === Number.POSITIVE_INFINITY) return null;
    if (!this.#health.closed) return Math.max(due, nowMs);
    const opens = this.#health.dueMs();
    return opens === null ? null : Math.max(opens, nowMs);
  }

  /** The events the next attempt with this unit carries. */
  payload(unit: Unit): Entry[] {
    return unit.oneByOne === null ? unit.entries : unit.entries.slice(unit.oneByOne, unit.oneByOne + 1);
  }

  /** Takes the outcome of an attempt. */
  settle(unit: Unit, outcome: AttemptOutcome, nowMs: number): Settled {
    if (outcome.kind === "acknowledged") {
      this.#health.succeeded();
      this.#parking.succeeded(nowMs);
      return this.#finish(unit, nowMs);
    }
    if (outcome.kind === "interrupted") {
      const { retryAfterMs = 0 } = outcome;
      this.#health.interrupted(nowMs, retryAfterMs);
      return this.#wait(unit, nowMs + retryAfterMs);
    }
    unit.attempts += 1;
    unit.failedAtMs ??= nowMs;
    if (outcome.kind === "retryable") {
      const retryAfterMs = outcome.retryAfterMs ?? 0;
      this.#health.failed(nowMs, this.#options.backoffMs, retryAfterMs);
      if (unit.attempts < this.#options.attempts) {
        const dueMs = nowMs + Math.max(this.#options.backoffMs(unit.attempts), retryAfterMs);
        return this.#wait(unit, dueMs);
      }
    } else {
      this.#health.succeeded(); // it answers; it does not want this event
      this.#parking.succeeded(nowMs);
    }
    const entry = unit.entries[unit.oneByOne ?? 0] as Entry;
    if (unit.entries.length > 1 && unit.oneByOne === null) {
      unit.oneByOne = 0; // one of them is the cause: find out which, in order
      return this.#wait(unit, nowMs, 0);
    }
    return { kind: "bury", entry, attempts: unit.attempts, error: `${outcome.code}: ${outcome.message}` };
  }

  /** The rows of the unit were dropped before it was sent: that tells nothing of the endpoint, and it counts as done. */
  gone(unit: Unit, nowMs: number): void {
    this.#health.interrupted(nowMs, 0);
    this.buried(unit, nowMs);
  }

  /** The dead letter of the unit's current event is stored, or its row is gone: it counts as done. */
  buried(unit: Unit, nowMs: number): void {
    for (const entry of this.payload(unit)) if (entry.parked) this.#parking.forget(entry);
    this.#finish(unit, nowMs);
  }

  /** Takes an event that lies parked; one that is delivered again is sent in turn with what is read. */
  restore({ event, bytes, attempts, deferred = true }: ParkedEvent): void {
    const { resent } = event;
    const kept = deferred ? emptied(event) : event;
    const entry = entryOf({ event: kept, bytes, deferred }, this.#read);
    this.#read += 1;
    entry.passed = true;
    if (resent === undefined) this.#order.add(entry, () => []);
    else {
      this.#order.addResent(entry, entry.apart);
      this.#resentLeft += 1;
    }
    this.#parking.restored(entry);
    if (entry.blockers > 0) return;
    if (resent === undefined || attempts > 0) this.#waitingParked.add(unitOf([entry], attempts), 0);
    else this.#resent.add(entry);
  }

  /** An event that lies parked, and was not taken, is not wanted. */
  passOver(event: ChangeEvent): void {
    this.#parking.passOver(parkedId(event));
  }

  /** The other holders are where this entry needs them to be. */
  crossed(entry: Entry, nowMs: number): void {
    if (!this.#crossings.delete(entry)) return;
    const { crossing } = entry;
    entry.crossing = null;
    if (crossing === "ours") this.#pushReady(entry, nowMs);
    else this.#done(entry, nowMs);
    this.#progress.advance();
  }

  /** Events to store as parked now; then call `park`, with those that were found in the outbox. */
  toPark(nowMs: number): Entry[] {
    if ((this.#waiting.size === 0 && !this.#parking.follows) || this.#parking.full) return [];
    const isDue = (unit: Unit) => this.#parking.isDue(unit, nowMs, this.#progress.span);
    const units = this.#health.closed
      ? []
      : this.#waiting.takeAll((unit) => this.#mayPark(unit) && isDue(unit));
    return this.#parking.begin(units);
  }

  /** Failed attempts of an event that is to be parked. */
  attemptsOf(entry: Entry): number {
    return this.#parking.attemptsOf(entry);
  }

  /** These are stored. `gone`: there was no row any more, so they are lost. */
  park(stored: readonly Entry[], gone: readonly Entry[], nowMs: number): void {
    for (const entry of stored) {
      this.#leaveMemory(entry);
      this.#pass(entry);
      this.#parking.parked(entry);
    }
    for (const unit of this.#parking.units(stored)) {
      this.#waitingParked.add(unit, nowMs + this.#options.backoffMs(Math.max(1, unit.attempts)));
    }
    for (const entry of gone) this.#done(entry, nowMs);
    this.#progress.advance();
  }

  /** Ids of parked events that are done since the last call: to be taken away where they are stored. */
  takeUnparked(): string[] {
    return this.#parking.takeDone();
  }

  position(): Position {
    return this.#progress.position();
  }

  /** Id of what waits for other holders, and for nothing here: all before it is done. The position does not say so. */
  standsBefore(): string | null {
    const { first } = this.#progress;
    return first !== undefined && this.#crossings.has(first) ? first.id : null;
  }

  /** Ids of events beyond the position that are passed: whoever relays next passes over them. */
  passedBeyond(): string[] {
    return [...this.#passedBefore, ...this.#progress.passedBeyond()];
  }

  *#earlierThan(entry: Entry): Generator<Entry> {
    for (const parked of this.#parking.entries()) if (!parked.apart) yield parked;
    for (const other of this.#progress.open()) {
      if (other === entry) return;
      yield other;
    }
  }

  #finish(unit: Unit, nowMs: number): Settled {
    if (unit.oneByOne !== null && unit.oneByOne + 1 < unit.entries.length) {
      const entry = unit.entries[unit.oneByOne] as Entry;
      this.#done(entry, nowMs);
      unit.oneByOne += 1;
      this.#progress.advance();
      return this.#wait(unit, nowMs, 0);
    }
    this.#leaveFlight(unit);
    for (const entry of this.payload(unit)) this.#done(entry, nowMs);
    this.#progress.advance();
    return { kind: "done" };
  }

  #done(entry: Entry, nowMs: number): void {
    entry.done = true;
    if (entry.event.resent !== undefined) this.#resentLeft -= 1;
    if (entry.parked) this.#parking.done(entry);
    else this.#leaveMemory(entry);
    this.#pass(entry);
    for (const follower of this.#order.finish(entry)) this.#release(follower, nowMs);
    entry.event = NOTHING; // the row is not needed any more, its place in the order is
  }

  #pass(entry: Entry): void {
    if (entry.passed) return;
    entry.passed = true;
    this.#unsent -= 1;
  }

  #leaveMemory(entry: Entry): void {
    if (entry.deferred) return;
    this.#unsentBytes -= entry.bytes;
    entry.deferred = true;
    entry.event = emptied(entry.event);
  }

  #wait(unit: Unit, dueMs: number, attempts = unit.attempts): Settled {
    this.#leaveFlight(unit);
    unit.attempts = attempts;
    (unit.entries[0]?.parked === true ? this.#waitingParked : this.#waiting).add(unit, dueMs);
    return { kind: "waiting" };
  }

  #leaveFlight(unit: Unit): void {
    this.#inFlight -= 1;
    this.#eventsInFlight -= unit.flight.events;
    if (unit.flight.retry) this.#retriesInFlight -= 1;
  }

  /** Retries, which may each take as long as an attempt may, leave room for what has not failed. */
  #mayRetry(): boolean {
    return this.#retriesInFlight < Math.max(1, this.#options.maxInFlight / 2);
  }

  #takeWaiting(nowMs: number): Unit | null {
    const dueMs = this.#retryDueMs();
    const probing = this.#health.closed; // the endpoint's own wait is over: any unit will do
    if (dueMs > nowMs && !(probing && dueMs < Number.POSITIVE_INFINITY)) return null;
    return (this.#waiting.dueMs <= this.#waitingParked.dueMs ? this.#waiting : this.#waitingParked).take();
  }

  #retryDueMs(): number {
    if (!this.#mayRetry()) return Number.POSITIVE_INFINITY;
    return Math.min(this.#waiting.dueMs, this.#waitingParked.dueMs);
  }

  /** Of what is delivered again: in turn with what is ready, and in half of the requests at most. */
  #takeResent(): Unit | null {
    const wanted = !this.#resentLast || this.#ready.size === 0;
    this.#resentLast = wanted && this.#resent.size > 0 && this.#mayRetry();
    return this.#resentLast ? unitOf([this.#resent.take()]) : null;
  }

  #takeReady(nowMs: number): Unit | null {
    const count = this.#ready.size;
    const next = this.#ready.first;
    if (next === undefined) return null;
    const { maxEvents, maxBytes, maxWaitMs } = this.#options;
    if (maxWaitMs > 0 && count < maxEvents && nowMs < this.#readySinceMs + maxWaitMs) return null;
    this.#ready.take();
    const entries = [next];
    if (maxEvents > 1 && !next.parked) fillBatch(entries, this.#ready, maxEvents, maxBytes);
    this.#readySinceMs = nowMs;
    return unitOf(entries);
  }

  #mayPark({ entries, oneByOne }: Unit): boolean {
    return entries.slice(oneByOne ?? 0).every((entry) => !entry.parked && this.#order.mayPark(entry));
  }

  #release(entry: Entry, nowMs: number): void {
    if (entry.crossing === null) this.#pushReady(entry, nowMs);
    else this.#crossings.add(entry);
  }

  #pushReady(entry: Entry, nowMs: number): void {
    if (entry.parked && entry.event.resent !== undefined) {
      this.#resent.add(entry);
      return;
    }
    if (this.#ready.size === 0) this.#readySinceMs = nowMs;
    this.#ready.add(entry);
  }
}

/** An event that was passed before it was read. */
function letGo(entry: Entry): void {
  entry.passed = true;
  entry.done = true;
  entry.event = NOTHING;
}

function isRetry({ failedAtMs, entries }: Unit): boolean {
  return failedAtMs !== null || entries[0]?.parked === true;
}
