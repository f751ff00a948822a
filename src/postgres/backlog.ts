/**
 * Keeps the outbox within its limits: rotation, and what `spec.capture.backlog.onLimit` says when a limit is
 * reached. One round looks at everything anew, so it may be run from several workers and the operator at
 * once; each step is a short transaction of its own that looks again under its lock. A writer never waits.
 */
import type { ClientBase } from "pg";
import type { CaptureSpec } from "../core/api/capture.ts";
import {
  type Backlog,
  isRelieved,
  type ReachedLimit,
  reachedLimit,
  segmentLimits,
} from "../core/capture/backlog.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import {
  changeSegments,
  emptySegment,
  openNextSegment,
  pointWriters,
  readSegments,
  type Segment,
  writersAreAstray,
} from "./segments.ts";

/** Lost events are counted exactly up to this number. */
const COUNT_LIMIT = 1_000_000;
/** The table of callbacks is written anew above this: 4 MiB are about 30,000 versions of rows. */
const CALLBACK_TABLE_BYTES = 4 * 2 ** 20;

export interface DroppedEvents {
  readonly callback: string;
  /** Exact up to a million, an estimate above. */
  readonly events: number;
}

export interface OutboxReport {
  /** The server is another one, with transaction ids of its own: positions were made to fit. */
  readonly moved: boolean;
  /** The segment that writers append to now, when that changed. */
  readonly opened: number | null;
  readonly emptied: readonly number[];
  readonly dropped: readonly DroppedEvents[];
  readonly capture: "Paused" | "Resumed" | null;
  /** Changes that could not be captured since the last round (`onError: Skip`). */
  readonly skipped: number;
  readonly backlog: Backlog;
  /** The limit that is still reached at the end of the round. */
  readonly reached: ReachedLimit | null;
}

/** One round. @throws the driver's errors; the next round goes on */
export async function keepOutbox(
  client: ClientBase,
  names: CaptureNames,
  capture: CaptureSpec,
): Promise<OutboxReport> {
  const { backlog: limits, retentionSeconds } = capture;
  const { maxAgeSeconds = 0 } = limits;
  const moved = await followServer(client, names);
  const skipped = await tellSkipped(client, names);
  await compactCallbacks(client, names);
  await summarizeIds(client, names);
  const emptied: number[] = [];
  for (const { number, closedSeconds } of await readClosed(client, names)) {
    if (closedSeconds > retentionSeconds && (await emptySegment(client, names, number))) emptied.push(number);
  }
  const opened = await openNextSegment(client, names, segmentLimits(capture));
  const paused = await isPaused(client, names);
  const look = async () => {
    const backlog = await measure(client, names);
    return { backlog, reached: reachedLimit(limits, backlog), relieved: isRelieved(limits, backlog) };
  };
  let seen = await look();
  // What every callback has goes first, before its retention is over.
  const frees = () => limits.onLimit !== "Alert" && (seen.reached === "Bytes" || (paused && !seen.relieved));
  for (const { number } of frees() ? await readClosed(client, names) : []) {
    if (!frees()) break;
    if (!(await emptySegment(client, names, number))) continue;
    emptied.push(number);
    seen = await look();
  }
  const dropped: DroppedEvents[] = [];
  const drops = () => limits.onLimit === "DropOldest" && seen.reached !== null;
  for (const { number, closedSeconds } of drops() ? await readClosed(client, names) : []) {
    if (!drops() || seen.reached === null || (seen.reached === "Age" && closedSeconds <= maxAgeSeconds))
      break;
    const lost = await dropSegment(client, names, number, seen.reached);
    if (lost === null) break; // a lock: next round
    emptied.push(number);
    dropped.push(...lost);
    seen = await look();
  }
  const change = await pauseOrResume(client, names, {
    paused,
    wanted: limits.onLimit !== "Pause" || seen.relieved ? null : (seen.reached ?? (paused ? "Bytes" : null)),
  });
  const { backlog, reached } = seen;
  return { moved, opened, emptied, dropped, capture: change, skipped, backlog, reached };
}

/** @returns whether positions had to be made to fit this server. See follow_server in sql/functions_backlog.sql */
export async function followServer(client: ClientBase, names: CaptureNames): Promise<boolean> {
  const { rows } = await client.query<{ moved: boolean }>(`select ${names.schema}.follow_server() as moved`);
  return rows[0]?.moved === true;
}

async function tellSkipped(client: ClientBase, { schema }: CaptureNames): Promise<number> {
  const { rows } = await client.query<{ skipped: string | null }>(
    `select ${schema}.tell_skipped() as skipped`,
  );
  return Number(rows[0]?.skipped ?? 0);
}

/** What is left of a window is found by the id index, which knows only of block ranges that were summarized. */
async function summarizeIds(client: ClientBase, { schema }: CaptureNames): Promise<void> {
  await client.query(
    `select ${schema}.prepare_slices() where exists (select from ${schema}.callback where ahead is not null)`,
  );
}

async function compactCallbacks(client: ClientBase, names: CaptureNames): Promise<void> {
  const { rows } = await client.query<{ bytes: string }>(
    `select pg_relation_size('${names.schema}.callback')::text as bytes`,
  );
  if (Number(rows[0]?.bytes) <= CALLBACK_TABLE_BYTES) return;
  await changeSegments(client, names, () => client.query(`select ${names.schema}.compact_callbacks()`));
}

async function measure(client: ClientBase, names: CaptureNames): Promise<Backlog> {
  const segments = await readSegments(client, names);
  const { rows } = await client.query<{ name: string; age: string }>(`
    select name, coalesce(extract(epoch from clock_timestamp() - pending.oldest), 0)::text as age
    from ${names.schema}.callback
    cross join lateral ${names.schema}.pending_events(name, 100) as pending
    order by name`);
  return {
    bytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
    callbacks: rows.map(({ name, age }) => ({ name, oldestAgeSeconds: Math.max(0, Number(age)) })),
  };
}

type ClosedSegment = Segment & { readonly closedSeconds: number };

/** The oldest first. */
async function readClosed(client: ClientBase, names: CaptureNames): Promise<ClosedSegment[]> {
  return (await readSegments(client, names)).filter(
    (segment) => segment.closedSeconds !== null,
  ) as ClosedSegment[];
}

/**
 * Empties a segment although callbacks need it. It is counted before it is locked; when something was
 * appended since, which would be lost without being counted, it has to wait.
 * @returns what each callback lost; null when it has to wait
 */
async function dropSegment(
  client: ClientBase,
  names: CaptureNames,
  number: number,
  reached: ReachedLimit,
): Promise<DroppedEvents[] | null> {
  const { schema } = names;
  const { rows } = await client.query<UnreadRow>({
    text: `
      select callback, events::text, first_at::text, last_at::text, counted_in::text
      from ${schema}.unread_in_segment($1::smallint, $2::integer)`,
    values: [number, COUNT_LIMIT],
  });
  const dropped: DroppedEvents[] = [];
  const emptied = await emptySegment(client, names, number, async () => {
    const grown = await client.query<{ grown: boolean }>(
      `select ${schema}.segment_has_grown($1::smallint, $2::pg_snapshot) as grown`,
      [number, rows[0]?.counted_in],
    );
    if (grown.rows[0]?.grown !== false) return false;
    for (const { callback, events, first_at, last_at } of rows.filter(({ events }) => events !== "0")) {
      await client.query(`update ${schema}.callback set lost_events = lost_events + $2 where name = $1`, [
        callback,
        events,
      ]);
      await client.query(
        `insert into ${schema}.loss (kind, reached, callback, events, started_at, ended_at)
         values ('Dropped', $1, $2, $3, $4, $5)`,
        [reached, callback, events, first_at, last_at],
      );
      dropped.push({ callback, events: Number(events) });
    }
    await client.query(
      `delete from ${schema}.loss where at < now() - interval '30 days' and ended_at is not null`,
    );
    await client.query(
      `update ${schema}.replay set incomplete = true
       where finished_at is null
         and exists (select from ${schema}.outbox_${number} where id > read_id and id <= until_id)`,
    );
    return true;
  });
  return emptied ? dropped : null;
}

interface UnreadRow {
  callback: string;
  events: string;
  first_at: string;
  last_at: string;
  counted_in: string;
}

async function isPaused(client: ClientBase, names: CaptureNames): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from ${names.schema}.loss where kind = 'Paused' and ended_at is null`,
  );
  return rowCount === 1;
}

/** @param state `wanted`: the limit for which capture has to be paused, or stay so; null: it goes on */
async function pauseOrResume(
  client: ClientBase,
  names: CaptureNames,
  { paused, wanted }: { paused: boolean; wanted: ReachedLimit | null },
): Promise<"Paused" | "Resumed" | null> {
  const { schema } = names;
  const change = (wanted !== null) === paused ? null : paused ? "Resumed" : "Paused";
  if (change === null && !(await writersAreAstray(client, names))) return null;
  return changeSegments(client, names, async () => {
    if (change === "Paused") {
      await client.query(
        `insert into ${schema}.loss (kind, reached, events, started_at)
         values ('Paused', $1, ${schema}.captured_changes(), clock_timestamp()) on conflict do nothing`,
        [wanted],
      );
    }
    if (change === "Resumed") {
      // While a pause lasts, its row holds what the statistics knew of at its beginning.
      await client.query(
        `update ${schema}.loss
         set ended_at = 'infinity', events = greatest(0, ${schema}.captured_changes() - events)
         where kind = 'Paused' and ended_at is null`,
      );
    }
    await pointWriters(client, names);
    if (change === "Resumed") {
      // What was written until writers append again may be missing.
      await client.query(
        `update ${schema}.loss set ended_at = clock_timestamp() where ended_at = 'infinity'`,
      );
    }
    return change;
  });
}
