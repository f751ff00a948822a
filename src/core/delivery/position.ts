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

/**
 * Which of two positions is further: negative when `one` is behind `other`. They must lie on one chain of
 * windows. Snapshots of one server follow each other: the later one's xmax is larger, or fewer transactions
 * below the same xmax are running.
 */
export function comparePositions(one: Position, other: Position): number {
  return (
    compareSnapshots(one.seen, other.seen) || sign(BigInt(one.aheadId ?? 0) - BigInt(other.aheadId ?? 0))
  );
}

/** The one that is furthest behind; undefined for none. They must lie on one chain of windows. */
export function leastPosition<P extends Position>(positions: readonly P[]): P | undefined {
  return positions.reduce<P | undefined>(
    (least, one) => (least === undefined || comparePositions(one, least) < 0 ? one : least),
    undefined,
  );
}

/** Whether the event of this transaction and id is passed, with everything before it. */
export function isPast(
  { seen, ahead, aheadId }: Position,
  { id, transactionId }: { readonly id: string; readonly transactionId: string },
): boolean {
  const xid = BigInt(transactionId);
  if (isVisible(xid, seen)) return true;
  if (ahead === null || aheadId === null || !isVisible(xid, ahead)) return false;
  return BigInt(aheadId) >= BigInt(id);
}

interface Snapshot {
  readonly xmin: bigint;
  readonly xmax: bigint;
  readonly running: ReadonlySet<bigint>;
}

/** Few differ at a time: those of the windows under way. */
const parsed = new Map<string, Snapshot>();
const MOST_PARSED = 64;

function parse(text: string): Snapshot {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const [xmin = "0", xmax = "0", running = ""] = text.split(":");
  const ids = running === "" ? [] : running.split(",").map(BigInt);
  const snapshot = { xmin: BigInt(xmin), xmax: BigInt(xmax), running: new Set(ids) };
  if (parsed.size >= MOST_PARSED) parsed.clear();
  parsed.set(text, snapshot);
  return snapshot;
}

/** What pg_visible_in_snapshot says. */
function isVisible(xid: bigint, text: string): boolean {
  const { xmin, xmax, running } = parse(text);
  return xid < xmin || (xid < xmax && !running.has(xid));
}

function compareSnapshots(one: string, other: string): number {
  const [a, b] = [parse(one), parse(other)];
  return sign(a.xmax - b.xmax) || b.running.size - a.running.size;
}

function sign(number: bigint): number {
  return number < 0n ? -1 : number > 0n ? 1 : 0;
}
