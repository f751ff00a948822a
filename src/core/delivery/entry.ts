/** What the relay keeps of an event from reading it until it is done. */
import type { ChangeEvent } from "../event.ts";
import type { Ordered } from "./key-order.ts";
import type { Tracked } from "./progress.ts";
import type { Sequenced } from "./ready-queue.ts";

/** An event as it was read. `deferred`: its row images were too large to read ahead. */
export interface ReadEvent {
  readonly event: ChangeEvent;
  readonly bytes: number;
  readonly deferred: boolean;
  /** Only while the lanes of the callback are shared out: the lane it belongs to. */
  readonly lane?: number;
  /** The lane of the key that an update took away; null: it concerns its own lane, or all. */
  readonly oldLane?: number | null;
  /** It concerns lanes of others, too. */
  readonly crossing?: Crossing;
}

/**
 * An event that concerns lanes of several holders. `ours`: this one delivers it, when the others are past
 * what comes before it. `theirs`: it is only a place to wait at until its holder has delivered it.
 */
export type Crossing = "ours" | "theirs";

/**
 * A parked event: by whoever held its lane before, or laid ready to be delivered again (`event.resent`).
 * `deferred`: its images are not here.
 */
export interface ParkedEvent {
  readonly event: ChangeEvent;
  readonly bytes: number;
  readonly attempts: number;
  readonly deferred?: boolean;
}

export interface Entry extends Ordered, Sequenced, Tracked {
  readonly bytes: number;
  /** -1 while one worker holds all lanes. */
  readonly lane: number;
  readonly oldLane: number | null;
  /** Null once it need not wait for other holders any more. */
  crossing: Crossing | null;
  /** Other holders wait until this one has delivered it. */
  readonly awaited: boolean;
  /** It is delivered again, and has an order of its own: live events do not wait for it. */
  readonly apart: boolean;
  /** The images are not here, to be read when its turn has come. */
  deferred: boolean;
  /** Acknowledged, or durably a dead letter. */
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
  /** Monotonic milliseconds of the first failure; null before. */
  failedAtMs: number | null;
  /** While it is in flight: the events it was counted with, and whether as a retry. */
  flight: { readonly events: number; readonly retry: boolean };
}

export function unitOf(entries: Entry[], attempts = 0): Unit {
  return { entries, attempts, oneByOne: null, failedAtMs: null, flight: { events: 0, retry: false } };
}

export function entryOf(row: ReadEvent, sequence: number): Entry {
  const { event } = row;
  return {
    sequence,
    event,
    id: event.resent === undefined ? event.id : parkedId(event),
    bytes: row.bytes,
    deferred: row.deferred,
    lane: row.lane ?? -1,
    oldLane: row.oldLane ?? null,
    crossing: row.crossing ?? null,
    awaited: row.crossing === "ours",
    apart: isApart(event),
    done: false,
    passed: false,
    parked: false,
    blockers: 0,
    followers: null,
    orderKey: null,
    oldOrderKey: null,
    barrierOf: null,
  };
}

/** Lets go of the row: its place in the order is still needed, or it will be read again. */
export function emptied(event: ChangeEvent): ChangeEvent {
  const { id, transactionId, operation, schema, table, key, oldKey, resent } = event;
  const rest = { ...NOTHING, id, transactionId, operation, schema, table, key };
  return resent === undefined ? rest : { ...rest, oldKey, resent };
}

/** What a parked event of a callback is told by: its id, and whose dead letter it is. */
export function parkedId({ id, resent }: ChangeEvent): string {
  return resent?.letter ? `${id} ${resent.letter.callback}` : id;
}

/** The two of `parkedId`; the second is empty for an event of the callback's own. */
export function ofParkedId(parked: string): readonly [id: string, letterOf: string] {
  const [id = "", letterOf = ""] = parked.split(" ");
  return [id, letterOf];
}

/** Replays, and dead letters of others, are ordered among themselves. */
function isApart({ resent }: ChangeEvent): boolean {
  return resent !== undefined && (resent.replay !== 0 || resent.letter !== null);
}

/** In place of an event that is done. */
export const NOTHING: ChangeEvent = {
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
