/**
 * The four segments of the outbox: moves writers on to an empty one, and empties closed ones by TRUNCATE.
 * No row is deleted one by one, so nothing bloats while some transaction holds the xmin horizon.
 *
 * A writer that has just read the number of a segment may append to it after it was closed; that is
 * harmless, because readers look at all segments, and what a segment holds is looked at once more under
 * its exclusive lock, where nobody can append. TRUNCATE hides rows from snapshots that are older, so none is
 * emptied that holds a row which a stored position has not passed: no reader looks for those.
 *
 * Whoever changes which segment is open, or empties one, holds the lock of the table `segment`.
 */
import type { ClientBase } from "pg";
import { SEGMENTS } from "../core/capture/backlog.ts";
import type { CaptureNames } from "../core/capture/names.ts";

/** Milliseconds to wait for a segment's lock; readers and writers queue behind us for no longer. */
const LOCK_TIMEOUT_MS = 100;
const LOCK_NOT_AVAILABLE = "55P03";

export interface Segment {
  readonly number: number;
  /** On disk, TOAST and indexes included. */
  readonly bytes: number;
  /** Seconds since writers were moved on from it; null: open, or empty. */
  readonly closedSeconds: number | null;
}

export async function readSegments(client: ClientBase, names: CaptureNames): Promise<Segment[]> {
  const { rows } = await client.query<{ number: number; bytes: string; closed: string | null }>(`
    select number, pg_total_relation_size(('${names.schema}.outbox_' || number)::regclass)::text as bytes,
      extract(epoch from clock_timestamp() - closed_at)::text as closed
    from ${names.schema}.segment
    order by closed_at, number`);
  return rows.map(({ number, bytes, closed }) => ({
    number,
    bytes: Number(bytes),
    closedSeconds: closed === null ? null : Number(closed),
  }));
}

/**
 * Runs `work` in a transaction that alone changes segments. What waits for a lock waits briefly.
 * @returns null when a lock was not to be had: next time
 */
export async function changeSegments<T>(
  client: ClientBase,
  names: CaptureNames,
  work: () => Promise<T>,
): Promise<T | null> {
  // Each statement has to see what was committed before it got its lock, whatever the default is.
  await client.query("begin isolation level read committed");
  try {
    await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await client.query(`lock table ${names.schema}.segment in share row exclusive mode`);
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    if ((error as { code?: string }).code === LOCK_NOT_AVAILABLE) return null;
    throw error;
  }
}

/**
 * Empties a closed segment.
 * @param whenNeeded what to do, under the segment's lock, when a callback has not got all of it; true: empty it all the same
 * @returns whether it was emptied
 */
export async function emptySegment(
  client: ClientBase,
  names: CaptureNames,
  number: number,
  whenNeeded?: () => Promise<boolean>,
): Promise<boolean> {
  if (whenNeeded === undefined && (await isNeeded(client, names, number))) return false; // looks without a lock first
  const emptied = await changeSegments(client, names, async () => {
    const table = `${names.schema}.outbox_${number}`;
    const { rowCount } = await client.query(
      `select from ${names.schema}.segment where number = $1 and closed_at is not null`,
      [number],
    );
    if (rowCount !== 1) return false; // another one was faster
    await client.query(`lock table ${table} in access exclusive mode`);
    if ((await isNeeded(client, names, number)) && (await whenNeeded?.()) !== true) return false;
    await client.query(`truncate table ${table}`);
    await client.query(
      `update ${names.schema}.installation
       set gone_until = greatest(gone_until, (select closed_at from ${names.schema}.segment where number = $1))`,
      [number],
    );
    await client.query(
      `update ${names.schema}.segment set opened_at = null, closed_at = null where number = $1`,
      [number],
    );
    return true;
  });
  return emptied === true;
}

async function isNeeded(client: ClientBase, names: CaptureNames, number: number): Promise<boolean> {
  const { rows } = await client.query<{ needed: boolean }>(
    `select ${names.schema}.segment_is_needed($1::smallint) as needed`,
    [number],
  );
  return rows[0]?.needed === true;
}

/**
 * Closes the open segment when it has been open for long enough, has grown large enough, or capture is
 * paused, and opens an empty one, if there is one.
 * @returns the number of the segment that is open now, when that has changed
 */
export async function openNextSegment(
  client: ClientBase,
  names: CaptureNames,
  limits: { seconds: number; bytes: number },
): Promise<number | null> {
  const { schema } = names;
  const due = async (): Promise<number | null> => {
    const { rows } = await client.query<{ next: number }>({
      text: `
        select next.number as next
        from ${schema}.segment as open
        join ${schema}.segment as next on next.opened_at is null
        cross join lateral (select ('${schema}.outbox_' || open.number)::regclass as table) as of_open
        where open.opened_at is not null and open.closed_at is null and pg_relation_size(of_open.table) > 0
          and (open.opened_at < clock_timestamp() - make_interval(secs => $1)
            or pg_total_relation_size(of_open.table) > $2::float8
            or pg_sequence_last_value('${schema}.outbox_segment'::regclass) < 0)
        order by (next.number - open.number + ${SEGMENTS}) % ${SEGMENTS} -- not in turn: a transaction may pin one
        limit 1`,
      values: [limits.seconds, limits.bytes],
    });
    return rows[0]?.next ?? null;
  };
  if ((await due()) === null) return null; // looks without a lock first
  return changeSegments(client, names, async () => {
    const next = await due();
    if (next === null) return null;
    await client.query(
      `update ${schema}.segment set closed_at = clock_timestamp() where opened_at is not null and closed_at is null`,
    );
    await client.query(`update ${schema}.segment set opened_at = clock_timestamp() where number = $1`, [
      next,
    ]);
    await pointWriters(client, names);
    return next;
  });
}

/**
 * Lets writers append to the open segment, or to none while capture is paused. A sequence tells them, which
 * no rollback takes back; so each round compares. Call it with the lock of `segment`.
 */
export async function pointWriters(client: ClientBase, names: CaptureNames): Promise<void> {
  await client.query(`select setval('${names.schema}.outbox_segment', wanted) ${astray(names.schema)}`);
}

/** Writers read another number than they should. */
export async function writersAreAstray(client: ClientBase, names: CaptureNames): Promise<boolean> {
  const { rowCount } = await client.query(`select wanted ${astray(names.schema)}`);
  return rowCount === 1;
}

const astray = (schema: string) => `
  from (
    select case when exists (select from ${schema}.loss where kind = 'Paused' and ended_at is null)
      then -1 else number end as wanted
    from ${schema}.segment
    where opened_at is not null and closed_at is null
  ) as target
  where wanted is distinct from pg_sequence_last_value('${schema}.outbox_segment'::regclass)`;
