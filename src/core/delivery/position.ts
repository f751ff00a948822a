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
