/**
 * How far a callback is. A position is a snapshot, not a number: ids are given out before commits,
 * so "everything up to id n" would lose the row of a transaction that commits late (the idea of
 * PgQ's ticks). `seen`: every event visible in that snapshot is done. While a window (seen, ahead]
 * is under way, its events with an id up to `aheadId` are done as well.
 */
export interface Position {
  readonly seen: string;
  readonly ahead: string | null;
  readonly aheadId: string | null;
}

/** The parts of a pg_snapshot text `xmin:xmax:xip,xip,…` that a reader needs. */
export interface SnapshotBounds {
  /** First transaction id that had not been given out or ended: decimal xid8. */
  readonly xmax: string;
  /** Transactions below xmax that were still running. */
  readonly running: readonly string[];
}

/** @throws RangeError when the text is not a pg_snapshot */
export function snapshotBounds(snapshot: string): SnapshotBounds {
  const match = /^\d+:(\d+):([\d,]*)$/.exec(snapshot);
  if (match?.[1] === undefined) throw new RangeError(`not a pg_snapshot: ${snapshot}`);
  return { xmax: match[1], running: match[2] ? match[2].split(",") : [] };
}
