/**
 * What may be sent now, the oldest first: an entry that had to wait for others goes before what came
 * later. So the position moves on, and with one request at a time events go out in the order of the log.
 */

export interface Sequenced {
  /** Place in the order in which entries were read. */
  readonly sequence: number;
}

/** Entries taken from the front are cut off once there are this many, and half of the array. */
const CUT_AT = 1024;

export class ReadyQueue<E extends Sequenced> {
  #entries: E[] = [];
  #head = 0;

  get size(): number {
    return this.#entries.length - this.#head;
  }

  get first(): E | undefined {
    return this.#entries[this.#head];
  }

  add(entry: E): void {
    const last = this.#entries.at(-1);
    if (this.size === 0 || last === undefined || last.sequence < entry.sequence) this.#entries.push(entry);
    else this.#entries.splice(this.#placeOf(entry), 0, entry);
  }

  /** Takes the first entry; there must be one. */
  take(): E {
    const entry = this.#entries[this.#head] as E;
    this.#head += 1;
    if (this.#head > CUT_AT && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }

  /** Index of the first entry that comes after this one. */
  #placeOf({ sequence }: E): number {
    let [low, high] = [this.#head, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle]?.sequence ?? 0) < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
