/**
 * Events that concern lanes of several holders, and positions of several leases: who may do what. All holders
 * read the log in one order (OutboxCursor), so the earliest event that is not done waits for nobody.
 */
import type { Entry, ReadEvent } from "./entry.ts";
import { isBarrier } from "./key-order.ts";
import { hasLane } from "./lanes.ts";
import { isPast, type Position } from "./position.ts";

/** How far some lanes are. */
export interface LanesAt {
  readonly lanes: number;
  readonly position: Position;
}

/** The same of another holder. */
export interface OthersAt extends LanesAt {
  /** Id of what concerns several holders, when everything before it is done: what lies parked, which the position passes, too. */
  readonly standsBefore: string | null;
}

/** Whether an entry need not wait any more: who delivers it, for what comes before it; the others, for it. */
export function isMet(
  { crossing, event, lane, oldLane }: Pick<Entry, "crossing" | "event" | "lane" | "oldLane">,
  others: readonly OthersAt[],
): boolean {
  const holderOf = (wanted: number) => others.find(({ lanes }) => hasLane(lanes, wanted));
  if (crossing === "theirs") {
    const holder = holderOf(lane);
    return holder !== undefined && isPast(holder.position, event);
  }
  const before = oldLane === null ? others : [holderOf(oldLane)];
  return before.every(
    (holder) => holder !== undefined && (holder.standsBefore === event.id || isPast(holder.position, event)),
  );
}

/**
 * Of what a holder reads from the earliest position of its leases: what was not delivered before. Those that are
 * further have had some of it.
 */
export function undelivered(rows: readonly ReadEvent[], leases: readonly LanesAt[]): ReadEvent[] {
  return rows.filter(({ event, lane = -1, crossing }) => {
    const concerned = leases.filter(({ lanes }) =>
      crossing === "theirs" && isBarrier(event) ? true : hasLane(lanes, lane),
    );
    // Of an update that took the key to a lane of another: until it is delivered there, it is waited for.
    return concerned.length === 0 || concerned.some(({ position }) => !isPast(position, event));
  });
}
