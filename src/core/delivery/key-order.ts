/**
 * Keeps events of one key one after the other: an entry becomes ready when every earlier live entry
 * that shares a key with it is done. An update that changes the key belongs to both keys. Truncate
 * and a change of the schema are barriers for their table. Tables without a primary key count as one key.
 */
import type { ChangeEvent } from "../event.ts";

export type Ordering = "Key" | "Source" | "None";

export interface Ordered {
  event: ChangeEvent;
  /** Earlier live entries this one waits for. */
  blockers: number;
  /** Later entries that wait for this one. */
  followers: Ordered[] | null;
  /** What it shares with the events it must come after; null: nothing. */
  orderKey: string | null;
  /** The same for the key that an update took away. */
  oldOrderKey: string | null;
  /** The table whose order it divides; null: it is no barrier. */
  barrierOf: string | null;
  /** Durably parked: what comes behind it alone is parked as well. */
  parked: boolean;
}

export class KeyOrder<E extends Ordered> {
  readonly #ordering: Ordering;
  /** The last live entry of each key. */
  readonly #tails = new Map<string, E>();
  /** The last live barrier of each table. */
  readonly #barriers = new Map<string, E>();
  /** The table of the last event: most often that of the next one. */
  #schema = "";
  #table = "";
  #prefix = "";

  constructor(ordering: Ordering) {
    this.#ordering = ordering;
  }

  /**
   * Places an entry behind those it must follow.
   * @param live the entries that are not done, for the rare barrier
   * @returns the last live entry of its key before it
   */
  add(entry: E, live: () => Iterable<E>): E | undefined {
    if (this.#ordering === "Key") this.#addByKey(entry, live);
    else if (this.#ordering === "Source") entry.orderKey = "source";
    if (entry.oldOrderKey !== null) this.#follow(entry, entry.oldOrderKey);
    return entry.orderKey === null ? undefined : this.#follow(entry, entry.orderKey);
  }

  /**
   * Places an event that is delivered again, which divides no table's order.
   * @param apart among others of its kind only, so that nothing else waits for it
   */
  addResent(entry: E, apart: boolean): void {
    const { key, oldKey } = entry.event;
    const kind = apart ? "resent\0" : "";
    const prefix = kind + this.#prefixOf(entry.event);
    if (this.#ordering === "None") return;
    if (this.#ordering === "Source") entry.orderKey = `${kind}source`;
    else {
      entry.orderKey = key === null ? prefix : prefix + key;
      if (oldKey !== null) entry.oldOrderKey = prefix + oldKey;
    }
    if (entry.oldOrderKey !== null) this.#follow(entry, entry.oldOrderKey);
    this.#follow(entry, entry.orderKey);
  }

  /** Marks an entry done; returns the entries that became ready by that. */
  finish(entry: E): readonly E[] {
    this.#forget(entry, entry.orderKey);
    if (entry.oldOrderKey !== null) this.#forget(entry, entry.oldOrderKey);
    if (entry.barrierOf !== null && this.#barriers.get(entry.barrierOf) === entry)
      this.#barriers.delete(entry.barrierOf);
    if (entry.followers === null) return NONE;
    const followers = entry.followers as E[];
    entry.followers = null;
    return followers.filter((follower) => {
      follower.blockers -= 1;
      return follower.blockers === 0;
    });
  }

  /**
   * Whether an entry may lie parked while the log goes on without it: it has one key at most. What concerns
   * more, a barrier or an update of the key, holds its place in the log until it is done.
   */
  mayPark(entry: E): boolean {
    return this.#ordering !== "Source" && entry.barrierOf === null && entry.oldOrderKey === null;
  }

  /** Whether an entry that waits for a parked one waits for nothing else, and may be parked behind it. */
  isBehindParked(entry: E): boolean {
    return entry.blockers === 1 && entry.orderKey !== null && this.mayPark(entry);
  }

  /** Events that went along in one batch wait for each other again. They have one key at most (`mayPark`). */
  separate(entries: readonly E[]): void {
    const last = new Map<string, E>();
    for (const entry of entries) {
      if (entry.orderKey === null) continue;
      const before = last.get(entry.orderKey);
      if (before !== undefined) follow(entry, before);
      last.set(entry.orderKey, entry);
    }
  }

  #addByKey(entry: E, live: () => Iterable<E>): void {
    const { event } = entry;
    if (isBarrier(event)) {
      const table = barrierTable(event);
      entry.barrierOf = table;
      for (const other of live()) {
        if (other !== entry && (other.barrierOf ?? this.#prefixOf(other.event)) === table)
          follow(entry, other);
      }
      this.#barriers.set(table, entry);
      if (event.key === null) return;
    }
    const prefix = this.#prefixOf(event);
    entry.orderKey = event.key === null ? prefix : prefix + event.key;
    if (event.oldKey !== null) entry.oldOrderKey = prefix + event.oldKey;
    if (this.#barriers.size === 0 || entry.barrierOf !== null) return;
    const barrier = this.#barriers.get(prefix);
    if (barrier !== undefined) follow(entry, barrier);
  }

  #follow(entry: E, key: string): E | undefined {
    const tail = this.#tails.get(key);
    if (tail !== undefined) follow(entry, tail);
    this.#tails.set(key, entry);
    return tail;
  }

  #forget(entry: E, key: string | null): void {
    if (key !== null && this.#tails.get(key) === entry) this.#tails.delete(key);
  }

  #prefixOf({ schema, table }: ChangeEvent): string {
    if (schema !== this.#schema || table !== this.#table) {
      this.#schema = schema;
      this.#table = table;
      this.#prefix = `${schema}\0${table}\0`;
    }
    return this.#prefix;
  }
}

const NONE: readonly never[] = [];

export function isBarrier({ operation }: ChangeEvent): boolean {
  return operation === "Truncate" || operation === "SchemaChange";
}

/** A partition is emptied in the order of the table that it is a part of. */
function barrierTable(event: ChangeEvent): string {
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
