/**
 * Which events are parked, and when: a key whose attempts fail for long while others succeed, and what
 * follows it. Where nothing succeeds it is the endpoint that fails (endpoint-health.ts), and nothing is
 * parked.
 */
import { type Entry, type Unit, unitOf } from "./entry.ts";
import type { KeyOrder } from "./key-order.ts";

/** Milliseconds for which a failing key holds the position. */
const PATIENCE_MS = 1000;
/** Events past the oldest that is not passed, above which a failing key is parked at its first failure. */
const MAX_HELD = 2000;

export class Parking {
  readonly #limit: number;
  readonly #order: KeyOrder<Entry>;
  /** By event id. */
  readonly #parked = new Map<string, Entry>();
  /** Ids of those that lay parked at the beginning: the log may bring them once more. */
  readonly #restored = new Set<string>();
  /** Behind a parked entry, to be parked next. */
  #following: Entry[] = [];
  /** Attempts made of the entries that are being stored and were sent already. */
  readonly #sent = new Map<Entry, Unit>();
  /** Ids that are done and stored as parked. */
  #done: string[] = [];
  #lastSuccessMs = Number.NEGATIVE_INFINITY;

  constructor(limit: number, order: KeyOrder<Entry>) {
    this.#limit = limit;
    this.#order = order;
  }

  get size(): number {
    return this.#parked.size;
  }

  get full(): boolean {
    return this.#parked.size >= this.#limit;
  }

  /** Something is to be parked behind what is parked. */
  get follows(): boolean {
    return this.#following.length > 0;
  }

  /** Whether an event that is read was parked before this relay began. */
  holds(id: string): boolean {
    return this.#restored.size > 0 && this.#restored.has(id);
  }

  entries(): Iterable<Entry> {
    return this.#parked.values();
  }

  succeeded(nowMs: number): void {
    this.#lastSuccessMs = nowMs;
  }

  /** Whether a unit has failed for so long that it is parked. */
  isDue({ failedAtMs }: Unit, nowMs: number, span: number): boolean {
    if (failedAtMs === null || this.#lastSuccessMs < failedAtMs) return false;
    return nowMs - failedAtMs >= PATIENCE_MS || span > MAX_HELD;
  }

  /** An entry that follows one which is parked. */
  follow(entry: Entry): void {
    if (this.#order.isBehindParked(entry)) this.#following.push(entry);
  }

  /** What to store now: these units, and what follows. What does not fit stays, in order. */
  begin(units: readonly Unit[]): Entry[] {
    const entries: Entry[] = [];
    for (const unit of units) {
      const left = unit.entries.slice(unit.oneByOne ?? 0);
      this.#order.separate(left);
      for (const entry of left) this.#sent.set(entry, unit);
      entries.push(...left);
    }
    const room = this.#limit - this.#parked.size - entries.length;
    const followers = this.#following.filter(({ blockers }) => blockers > 0); // still behind it
    this.#following = followers.splice(Math.max(0, room));
    entries.push(...followers);
    return entries;
  }

  attemptsOf(entry: Entry): number {
    return this.#sent.get(entry)?.attempts ?? 0;
  }

  /** An entry is stored: what waits for nothing but it is next. */
  parked(entry: Entry): void {
    entry.parked = true;
    if (entry.done) {
      this.#done.push(entry.id); // it was let go and sent while it was being stored
      return;
    }
    this.#parked.set(entry.id, entry);
    for (const follower of entry.followers ?? [])
      if (!follower.parked && !this.#sent.has(follower as Entry)) this.follow(follower as Entry);
  }

  restored(entry: Entry): void {
    entry.parked = true;
    if (entry.event.resent === undefined) this.#restored.add(entry.id); // the log brings others only before they are here
    this.#parked.set(entry.id, entry);
  }

  /** The units to send again of entries that were sent before they were parked: each for itself, in order. */
  *units(stored: readonly Entry[]): Generator<Unit> {
    for (const entry of stored) {
      const before = this.#sent.get(entry);
      if (before === undefined || entry.blockers > 0) continue;
      const alone = before.entries.length === 1 || before.oneByOne !== null;
      const isFirst = before.entries[before.oneByOne ?? 0] === entry;
      yield unitOf([entry], alone && isFirst ? before.attempts : 0);
    }
    this.#sent.clear();
  }

  /** It is delivered: to be taken away where it is stored, unless `forget` came before. */
  done({ id }: Entry): void {
    if (this.#parked.delete(id)) this.#done.push(id);
  }

  /** It is stored as parked no more. */
  forget({ id }: Entry): void {
    this.#parked.delete(id);
  }

  /** Stored, not in memory, and not wanted: to be taken away as if it were done. */
  passOver(id: string): void {
    this.#done.push(id);
  }

  takeDone(): string[] {
    const done = this.#done;
    if (done.length > 0) this.#done = [];
    return done;
  }
}
