/**
 * Keeps events of one key one after the other: an entry becomes ready when every earlier live entry
 * that shares a key with it is done. An update that changes the key belongs to both keys. Truncate
 * and a change of the schema are barriers for their table. Tables without a primary key count as one key.
 */
import type { ChangeEvent } from "../event.ts";

export type Ordering = "Key" | "Source" | "None";

export interface Ordered {
  readonly event: ChangeEvent;
  /** Earlier live entries this one waits for. */
  blockers: number;
  /** Later entries that wait for this one. */
  followers: Ordered[] | null;
  orderKeys: readonly string[];
}

const SOURCE_KEY: readonly string[] = ["source"];
const NO_KEYS: readonly string[] = [];

export class KeyOrder<E extends Ordered> {
  readonly #ordering: Ordering;
  /** The last live entry of each key. */
  readonly #tails = new Map<string, E>();
  /** The last live barrier of each table. */
  readonly #barriers = new Map<string, E>();

  constructor(ordering: Ordering) {
    this.#ordering = ordering;
  }

  /**
   * Places an entry behind those it must follow.
   * @param live the entries that are not done, for the rare barrier
   * @returns true when nothing is in its way
   */
  add(entry: E, live: Iterable<E>): boolean {
    entry.orderKeys = this.#keysOf(entry.event);
    for (const key of entry.orderKeys) {
      const tail = this.#tails.get(key);
      if (tail !== undefined) follow(entry, tail);
      this.#tails.set(key, entry);
    }
    if (this.#ordering === "Key") this.#placeAtBarrier(entry, live);
    return entry.blockers === 0;
  }

  /** Marks an entry done; returns the entries that became ready by that. */
  finish(entry: E): E[] {
    for (const key of entry.orderKeys) {
      if (this.#tails.get(key) === entry) this.#tails.delete(key);
    }
    if (isBarrier(entry.event)) {
      const table = tableOf(entry.event);
      if (this.#barriers.get(table) === entry) this.#barriers.delete(table);
    }
    return this.release(entry);
  }

  /** Lets the followers go while the entry itself is still live: they travel behind it in one batch. */
  release(entry: E): E[] {
    if (entry.followers === null) return [];
    const followers = entry.followers as E[];
    entry.followers = null;
    return followers.filter((follower) => {
      follower.blockers -= 1;
      return follower.blockers === 0;
    });
  }

  #placeAtBarrier(entry: E, live: Iterable<E>): void {
    if (!isBarrier(entry.event)) {
      if (this.#barriers.size === 0) return;
      const barrier = this.#barriers.get(tableOf(entry.event));
      if (barrier !== undefined) follow(entry, barrier);
      return;
    }
    const table = tableOf(entry.event);
    for (const other of live) {
      if (other !== entry && tableOf(other.event) === table) follow(entry, other);
    }
    this.#barriers.set(table, entry);
  }

  #keysOf(event: ChangeEvent): readonly string[] {
    if (this.#ordering === "None") return NO_KEYS;
    if (this.#ordering === "Source") return SOURCE_KEY;
    const table = tableOf(event);
    if (event.key === null) return isBarrier(event) ? NO_KEYS : [table];
    const key = table + event.key;
    return event.oldKey === null ? [key] : [key, table + event.oldKey];
  }
}

function isBarrier({ operation }: ChangeEvent): boolean {
  return operation === "Truncate" || operation === "SchemaChange";
}

/** A partition is emptied in the order of the table that it is a part of. */
function tableOf(event: ChangeEvent): string {
  const { schema, table } = event.operation === "Truncate" ? (rootOf(event) ?? event) : event;
  return `${schema}\0${table}\0`;
}

function rootOf({ context }: ChangeEvent): { schema: string; table: string } | undefined {
  return (JSON.parse(context) as { root?: { schema: string; table: string } }).root;
}

function follow(entry: Ordered, earlier: Ordered): void {
  earlier.followers ??= [];
  earlier.followers.push(entry);
  entry.blockers += 1;
}
