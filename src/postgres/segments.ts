/**
 * Keeps the outbox from growing: moves writers on to an empty segment, and empties closed segments by
 * TRUNCATE once every callback is past them and the retention is over. No row is deleted one by one,
 * so nothing bloats while some transaction holds the xmin horizon.
 *
 * A writer with an old view may append to a segment after it was closed; that is harmless, because
 * readers look at all segments and emptying checks the rows under the segment's exclusive lock.
 */
import type { Pool, PoolClient } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";

export const SEGMENTS = 4;
/** Milliseconds to wait for a segment's lock; readers and writers queue behind us for no longer. */
const LOCK_TIMEOUT_MS = 100;
/** Seconds a segment is open at least. */
const MIN_OPEN_SECONDS = 60;

export interface RotationReport {
  /** The segment that writers append to now, when that changed. */
  readonly opened: number | null;
  readonly emptied: number[];
}

/** One round of rotation. Safe to run from several workers at once: rows of `segment` are locked. */
export async function rotateSegments(
  pool: Pool,
  names: CaptureNames,
  retentionSeconds: number,
): Promise<RotationReport> {
  const client = await pool.connect();
  try {
    const emptied: number[] = [];
    for (const number of await closedSegments(client, names, retentionSeconds)) {
      if (await emptySegment(client, names, number)) emptied.push(number);
    }
    const opened = await openNextSegment(client, names, retentionSeconds);
    return { opened, emptied };
  } finally {
    client.release();
  }
}

async function closedSegments(
  client: PoolClient,
  names: CaptureNames,
  retentionSeconds: number,
): Promise<number[]> {
  const { rows } = await client.query<{ number: number }>({
    text: `
      select number
      from ${names.schema}.segment
      where closed_at < clock_timestamp() - make_interval(secs => $1)
      order by number`,
    values: [retentionSeconds],
  });
  return rows.map(({ number }) => number);
}

/** Empties a closed segment if no callback needs a row of it. @returns false when it has to wait */
async function emptySegment(client: PoolClient, names: CaptureNames, number: number): Promise<boolean> {
  const table = `${names.schema}.outbox_${number}`;
  if (await isNeeded(client, names, number)) return false; // looks without a lock first
  await client.query("begin");
  try {
    await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await client.query(`lock table ${table} in access exclusive mode`);
    const needed = await isNeeded(client, names, number);
    if (!needed) {
      await client.query(`truncate table ${table}`);
      await client.query(
        `update ${names.schema}.segment set opened_at = null, closed_at = null where number = $1`,
        [number],
      );
    }
    await client.query("commit");
    return !needed;
  } catch (error) {
    await client.query("rollback");
    if ((error as { code?: string }).code === "55P03") return false; // somebody works on it: next round
    throw error;
  }
}

async function isNeeded(client: PoolClient, names: CaptureNames, number: number): Promise<boolean> {
  const { rows } = await client.query<{ needed: boolean }>(
    `select ${names.schema}.segment_is_needed($1::smallint) as needed`,
    [number],
  );
  return rows[0]?.needed === true;
}

async function openNextSegment(
  client: PoolClient,
  names: CaptureNames,
  retentionSeconds: number,
): Promise<number | null> {
  await client.query("begin");
  try {
    const { rows } = await client.query<{ number: number; due: boolean; free: boolean }>({
      text: `
        select current.number,
          current.opened_at < clock_timestamp() - make_interval(secs => $1)
            and pg_relation_size($2::regclass) > 0 as due,
          next.opened_at is null as free
        from (
          select segment.* from ${names.schema}.segment
          where number = (select last_value from ${names.schema}.outbox_segment)
          for update
        ) as current
        join ${names.schema}.segment as next on next.number = (current.number + 1) % ${SEGMENTS}`,
      values: [openSeconds(retentionSeconds), await currentTable(client, names)],
    });
    const row = rows[0];
    if (row === undefined || !row.due || !row.free) {
      await client.query("commit");
      return null;
    }
    const next = (row.number + 1) % SEGMENTS;
    await client.query(`update ${names.schema}.segment set opened_at = clock_timestamp() where number = $1`, [
      next,
    ]);
    await client.query(`update ${names.schema}.segment set closed_at = clock_timestamp() where number = $1`, [
      row.number,
    ]);
    await client.query(`select setval('${names.schema}.outbox_segment', $1)`, [next]);
    await client.query("commit");
    return next;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

/** Seconds a segment stays open: a third of the retention, so that segments do not outlive it by much. */
function openSeconds(retentionSeconds: number): number {
  return Math.max(MIN_OPEN_SECONDS, Math.ceil(retentionSeconds / (SEGMENTS - 1)));
}

async function currentTable(client: PoolClient, names: CaptureNames): Promise<string> {
  const { rows } = await client.query<{ number: number }>(
    `select last_value::integer as number from ${names.schema}.outbox_segment`,
  );
  return `${names.schema}.outbox_${rows[0]?.number ?? 0}`;
}
