/** Units that wait for their next attempt, the earliest due first: a binary heap. */
import type { Unit } from "./entry.ts";

interface Waiting {
  readonly unit: Unit;
  readonly dueMs: number;
}

export class WaitingUnits {
  readonly #heap: Waiting[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** When the next one is due; infinite without one. */
  get dueMs(): number {
    return this.#heap[0]?.dueMs ?? Number.POSITIVE_INFINITY;
  }

  add(unit: Unit, dueMs: number): void {
    const heap = this.#heap;
    let at = heap.push({ unit, dueMs }) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#at(parent).dueMs <= dueMs) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** Takes the one that is due first; null without one. */
  take(): Unit | null {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (first === undefined || last === undefined) return null;
    if (this.#heap.length > 0) {
      this.#heap[0] = last;
      this.#sink();
    }
    return first.unit;
  }

  /** Takes out every unit that `wanted` says; the rest stays. */
  takeAll(wanted: (unit: Unit) => boolean): Unit[] {
    const taken: Unit[] = [];
    const kept = this.#heap.filter(({ unit }) => !wanted(unit) || taken.push(unit) === 0);
    if (taken.length === 0) return taken;
    this.#heap.length = 0;
    for (const { unit, dueMs } of kept) this.add(unit, dueMs);
    return taken;
  }

  #sink(): void {
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#heap.length && this.#at(child).dueMs < this.#at(least).dueMs) least = child;
      }
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #at(index: number): Waiting {
    return this.#heap[index] as Waiting;
  }

  #swap(one: number, other: number): void {
    const kept = this.#at(one);
    this.#heap[one] = this.#at(other);
    this.#heap[other] = kept;
  }
}
