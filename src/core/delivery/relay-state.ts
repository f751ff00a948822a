/**
 * The state of one callback's relay, without clock, random or I/O: what was read, what may be sent
 * now, what waits, and how far the callback is. The shell (src/worker/relay.ts) reads, sends and
 * writes; it asks `next` what to send and tells `settle` what came of it.
 *
 *   read ─► blocked (an earlier event of its key is live) ─► ready ─► in flight ─► done
 *                                                              ▲         │
 *                                                              └ waiting ┘ retryable failure
 *                                                                        └► dead letter ─► done
 *
 * Invariants: events of one key are in flight one after the other, or together in one batch in id
 * order; an event is done only when acknowledged or durably a dead letter; the position never passes
 * an event that is not done.
 */
import type { ChangeEvent } from "../event.ts";
import { EndpointHealth } from "./endpoint-health.ts";
import { KeyOrder, type Ordered, type Ordering } from "./key-order.ts";
import type { Position } from "./position.ts";
import { Progress } from "./progress.ts";
import { ReadyQueue, type Sequenced } from "./ready-queue.ts";
import type { AttemptOutcome } from "./transport.ts";

/** An event as it was read. `deferred`: its row images were too large to read ahead. */
export interface ReadEvent {
  readonly event: ChangeEvent;
  readonly bytes: number;
  readonly deferred: boolean;
}

export interface Entry extends Ordered, Sequenced {
  event: ChangeEvent;
  readonly id: string;
  readonly bytes: number;
  readonly deferred: boolean;
  done: boolean;
  followers: Entry[] | null;
}

/** What one attempt carries. Kept together over its attempts. */
export interface Unit {
  readonly entries: Entry[];
  /** Attempts made so far with what the unit holds now. */
  attempts: number;
  /** After a refused batch: events go one by one, this many are done. Null: all in one attempt. */
  oneByOne: number | null;
}

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
  /** Milliseconds to wait before the attempt after the n-th (n from 1), jitter included. */
  readonly backoffMs: (attempt: number) => number;
}

export class RelayState {
  readonly #options: RelayOptions;
  readonly #order: KeyOrder<Entry>;
  readonly #progress: Progress<Entry>;
  readonly #health = new EndpointHealth();
  readonly #ready = new ReadyQueue<Entry>();
  #readySinceMs = 0;
  /** Units that wait for their next attempt, by due time. */
  #waiting: { unit: Unit; dueMs: number }[] = [];
  #inFlight = 0;
  #unsent = 0;
  #read = 0;

  constructor(options: RelayOptions, start: Position) {
    this.#options = options;
    this.#order = new KeyOrder(options.ordering);
    this.#progress = new Progress(start);
  }

  /** Events read and not done. */
  get pending(): number {
    return this.#unsent;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Events kept in order behind the oldest that is not done; bounds how far to read ahead. */
  get span(): number {
    return this.#progress.span;
  }

  /** The endpoint as a whole does not take requests. */
  get failing(): boolean {
    return this.#health.closed || this.#waiting.length > 0;
  }

  /** Adds what was read of the window that ends at `snapshot`. `wanted`: the callback's filter. */
  add(
    snapshot: string,
    rows: readonly ReadEvent[],
    complete: boolean,
    nowMs: number,
    wanted: (event: ChangeEvent) => boolean,
  ): void {
    const entries = rows.filter((row) => wanted(row.event)).map((row) => entryOf(row, this.#read++));
    this.#progress.add(snapshot, entries, complete);
    this.#unsent += entries.length;
    for (const entry of entries) {
      if (this.#order.add(entry, this.#earlierThan(entry))) this.#pushReady(entry, nowMs);
    }
  }

  /** What to send now, or null. The unit counts as in flight until `settle` or `buried`. */
  next(nowMs: number): Unit | null {
    if (this.#inFlight >= this.#options.maxInFlight || !this.#health.mayStart(nowMs)) return null;
    const unit = this.#takeWaiting(nowMs) ?? this.#takeReady(nowMs);
    if (unit === null) return null;
    this.#inFlight += 1;
    this.#health.started();
    return unit;
  }

  /** When `next` can return something by time alone; null when only an outcome or a read changes that. */
  dueMs(nowMs: number): number | null {
    if (this.#inFlight >= this.#options.maxInFlight) return null;
    const waiting = this.#waiting.reduce(
      (least, { dueMs }) => Math.min(least, dueMs),
      Number.POSITIVE_INFINITY,
    );
    const ready =
      this.#ready.size > 0 ? this.#readySinceMs + this.#options.maxWaitMs : Number.POSITIVE_INFINITY;
    const due = Math.min(waiting, ready);
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
      return this.#finish(unit, nowMs);
    }
    if (outcome.kind === "interrupted") {
      const { retryAfterMs = 0 } = outcome;
      this.#health.interrupted(nowMs, retryAfterMs);
      return this.#wait(unit, nowMs + retryAfterMs);
    }
    unit.attempts += 1;
    if (outcome.kind === "retryable") {
      const retryAfterMs = outcome.retryAfterMs ?? 0;
      this.#health.failed(nowMs, this.#options.backoffMs, retryAfterMs);
      if (unit.attempts < this.#options.attempts) {
        const dueMs = nowMs + Math.max(this.#options.backoffMs(unit.attempts), retryAfterMs);
        return this.#wait(unit, dueMs);
      }
    } else {
      this.#health.succeeded(); // it answers; it does not want this event
    }
    const entry = unit.entries[unit.oneByOne ?? 0] as Entry;
    if (unit.entries.length > 1 && unit.oneByOne === null) {
      unit.oneByOne = 0; // one of them is the cause: find out which, in order
      unit.attempts = 0;
      return this.#wait(unit, nowMs);
    }
    return { kind: "bury", entry, attempts: unit.attempts, error: `${outcome.code}: ${outcome.message}` };
  }

  /** The dead letter of the unit's current event is stored. */
  buried(unit: Unit, nowMs: number): void {
    this.#finish(unit, nowMs);
  }

  position(): Position {
    return this.#progress.position();
  }

  *#earlierThan(entry: Entry): Generator<Entry> {
    for (const other of this.#progress.live()) {
      if (other === entry) return;
      yield other;
    }
  }

  #finish(unit: Unit, nowMs: number): Settled {
    if (unit.oneByOne !== null && unit.oneByOne + 1 < unit.entries.length) {
      this.#done(unit.entries[unit.oneByOne] as Entry, nowMs);
      unit.oneByOne += 1;
      unit.attempts = 0;
      this.#progress.advance();
      return this.#wait(unit, nowMs);
    }
    for (const entry of this.payload(unit)) this.#done(entry, nowMs);
    this.#inFlight -= 1;
    this.#progress.advance();
    return { kind: "done" };
  }

  #done(entry: Entry, nowMs: number): void {
    entry.done = true;
    this.#unsent -= 1;
    for (const follower of this.#order.finish(entry)) this.#pushReady(follower, nowMs);
    entry.event = EMPTIED; // the row is not needed any more, its place in the order is
  }

  #wait(unit: Unit, dueMs: number): Settled {
    this.#inFlight -= 1;
    this.#waiting.push({ unit, dueMs });
    return { kind: "waiting" };
  }

  /** Of the units whose time has come, the one that waits longest: probes go round all keys. */
  #takeWaiting(nowMs: number): Unit | null {
    if (this.#waiting.length === 0) return null;
    const probing = this.#health.closed; // the endpoint's own wait is over: any unit will do
    let best = -1;
    for (const [index, { dueMs }] of this.#waiting.entries()) {
      if (!probing && dueMs > nowMs) continue;
      if (best === -1 || dueMs < (this.#waiting[best]?.dueMs ?? 0)) best = index;
    }
    return best === -1 ? null : (this.#waiting.splice(best, 1)[0]?.unit ?? null);
  }

  #takeReady(nowMs: number): Unit | null {
    const count = this.#ready.size;
    if (count === 0) return null;
    const { maxEvents, maxBytes, maxWaitMs } = this.#options;
    if (maxWaitMs > 0 && count < maxEvents && nowMs < this.#readySinceMs + maxWaitMs) return null;
    const first = this.#ready.take();
    const entries = [first];
    if (maxEvents > 1) this.#fill(entries, maxEvents, maxBytes - first.bytes);
    this.#readySinceMs = nowMs;
    return { entries, attempts: 0, oneByOne: null };
  }

  /** Fills a batch: followers of what is in it come along behind, then whatever else is ready. */
  #fill(entries: Entry[], maxEvents: number, roomBytes: number): void {
    let room = roomBytes;
    const take = (entry: Entry): boolean => {
      if (entries.length >= maxEvents || entry.bytes > room) return false;
      room -= entry.bytes;
      entries.push(entry);
      return true;
    };
    for (let index = 0; entries.length < maxEvents; index += 1) {
      const member = entries[index];
      if (member === undefined) {
        const other = this.#ready.first;
        if (other === undefined || !take(other)) break;
        this.#ready.take();
        index -= 1;
      } else if (member.followers !== null) {
        member.followers = member.followers.filter((follower) => {
          if (follower.blockers !== 1 || !take(follower)) return true;
          follower.blockers = 0;
          return false;
        });
      }
    }
    entries.sort((a, b) => a.sequence - b.sequence);
  }

  #pushReady(entry: Entry, nowMs: number): void {
    if (this.#ready.size === 0) this.#readySinceMs = nowMs;
    this.#ready.add(entry);
  }
}

const EMPTIED: ChangeEvent = {
  id: "0",
  transactionId: "0",
  time: "",
  operation: "Insert",
  schema: "",
  table: "",
  key: null,
  oldKey: null,
  old: null,
  new: null,
  context: "{}",
  schemaVersion: null,
};

function entryOf(row: ReadEvent, sequence: number): Entry {
  return {
    sequence,
    event: row.event,
    id: row.event.id,
    bytes: row.bytes,
    deferred: row.deferred,
    done: false,
    blockers: 0,
    followers: null,
    orderKeys: [],
  };
}
