/**
 * Turns acknowledgements in any order into a position: the longest prefix of the events, in the
 * order they were read, that is passed. Knows windows and what is passed, nothing of delivery.
 */
import type { Position } from "./position.ts";

export interface Tracked {
  readonly id: string;
  /** The position may pass it: it is done, or durably parked. */
  passed: boolean;
  /** Not null: it concerns lanes of other holders, too, and the position comes right before it. */
  readonly crossing: unknown;
}

interface Window {
  readonly snapshot: string;
  /** Every row of the window has been read. */
  complete: boolean;
  /** Entries read and not yet passed by the head. */
  left: number;
}

export class Progress<T extends Tracked> {
  readonly #windows: Window[] = [];
  #entries: T[] = [];
  #head = 0;
  #seen: string;
  #ahead: string | null;
  #aheadId: string | null;

  constructor(start: Position) {
    this.#seen = start.seen;
    this.#ahead = start.ahead;
    this.#aheadId = start.aheadId;
  }

  /** Entries between the head and the last one read, passed or not. */
  get span(): number {
    return this.#entries.length - this.#head;
  }

  /** The earliest entry that is not passed. */
  get first(): T | undefined {
    return this.#entries[this.#head];
  }

  /** The entries that are not passed. */
  *open(): Generator<T> {
    for (let index = this.#head; index < this.#entries.length; index += 1) {
      const entry = this.#entries[index];
      if (entry !== undefined && !entry.passed) yield entry;
    }
  }

  /** Ids of the entries behind the head that are passed. */
  *passedBeyond(): Generator<string> {
    for (let index = this.#head; index < this.#entries.length; index += 1) {
      const entry = this.#entries[index];
      if (entry?.passed === true) yield entry.id;
    }
  }

  /** Adds what was read of the window that ends at `snapshot`, in id order. */
  add(snapshot: string, entries: readonly T[], complete: boolean): void {
    let window = this.#windows.at(-1);
    if (window === undefined || window.complete) {
      window = { snapshot, complete: false, left: 0 };
      this.#windows.push(window);
    }
    window.left += entries.length;
    window.complete = complete;
    for (const entry of entries) this.#entries.push(entry);
    this.advance();
  }

  /** Moves the head over everything that is passed. */
  advance(): void {
    for (let window = this.#windows[0]; window !== undefined; window = this.#windows[0]) {
      this.#moveOn(window);
      if (window.left > 0 || !window.complete) break;
      this.#seen = window.snapshot;
      this.#ahead = null;
      this.#aheadId = null;
      this.#windows.shift();
    }
    if (this.#head > 4096 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  position(): Position {
    return { seen: this.#seen, ahead: this.#ahead, aheadId: this.#aheadId };
  }

  #moveOn(window: Window): void {
    while (window.left > 0) {
      const entry = this.#entries[this.#head];
      if (entry === undefined) return;
      if (!entry.passed) {
        if (entry.crossing !== null) this.#moveBefore(window, entry);
        return;
      }
      this.#head += 1;
      window.left -= 1;
      this.#ahead = window.snapshot;
      this.#aheadId = entry.id;
    }
  }

  /** What lies between the last event that is passed and this one concerns others, or was done by an earlier holder. */
  #moveBefore(window: Window, { id }: T): void {
    this.#ahead = window.snapshot;
    this.#aheadId = String(BigInt(id) - 1n);
  }
}
