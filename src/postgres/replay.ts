/**
 * Replays: what a callback had is delivered to it again, by its workers (sql/functions_replay.sql). A request is
 * looked at and stored in one transaction; what is gone from the outbox is told before anything is stored.
 */
import type { ClientBase } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import type { WantedEvents } from "../core/delivery/filter.ts";
import { leastPosition, type Position } from "../core/delivery/position.ts";
import { PgEventsError } from "../core/errors.ts";
import { tellWorkers } from "./callback-lease.ts";
import { rfc3339 } from "./rfc3339.ts";

/** Events are counted up to here. */
export const REPLAY_COUNT_LIMIT = 1_000_000;

export interface ReplayRequest {
  readonly callback: string;
  readonly from:
    | { readonly kind: "Time"; readonly since: string }
    | { readonly kind: "Id"; readonly id: string }
    /** A snapshot, as `pg-events status` shows it: what was not visible in it. */
    | { readonly kind: "Position"; readonly snapshot: string };
  /** RFC 3339, not included; null: no limit. */
  readonly until: string | null;
  /** Included; null: no limit. */
  readonly untilId: string | null;
  /** Names of tables, `*` for all of a schema; null: every table. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[] | null;
  /** Take what is there when a part is gone. */
  readonly available: boolean;
}

export interface ReplayPlan {
  /** Number of the replay; null: nothing was stored (a dry run, or nothing to replay). */
  readonly id: string | null;
  /** Exact up to REPLAY_COUNT_LIMIT; the expression of the callback's filter is not asked. */
  readonly events: number;
  readonly exact: boolean;
  /** The range of ids that is read; null: there is nothing in the outbox. */
  readonly fromId: string | null;
  readonly untilId: string | null;
  /** A part of what was asked for may be gone. */
  readonly gone: boolean;
  /** RFC 3339: everything that was written since is in the outbox; null: everything since capture was made. */
  readonly retainedSince: string | null;
  /** Replays of the callback that go first. */
  readonly before: number;
}

/**
 * @throws PgEventsError PGE_NOT_BUILT, PGE_FLAG_INVALID, and PGE_REPLAY_NOT_RETAINED when a part is gone
 */
export async function requestReplay(
  client: ClientBase,
  names: CaptureNames,
  request: ReplayRequest,
  wanted: WantedEvents,
  mode: "plan" | "apply",
): Promise<ReplayPlan> {
  await client.query("begin isolation level repeatable read");
  try {
    const plan = await planReplay(client, names, request, wanted, mode);
    await client.query(plan.id === null ? "rollback" : "commit");
    return plan;
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw error;
  }
}

async function planReplay(
  client: ClientBase,
  names: CaptureNames,
  request: ReplayRequest,
  wanted: WantedEvents,
  mode: "plan" | "apply",
): Promise<ReplayPlan> {
  const { schema, channel } = names;
  const { callback, from, until, untilId, tables, available } = request;
  if (from.kind === "Position") await checkPosition(client, from.snapshot);
  const had = await positionOf(client, schema, callback);
  const range = await readRange(client, schema, request);
  const { retained_since: retainedSince } = range;
  if (range.gone && !available) throw notRetained(retainedSince);
  const nothing = { id: null, events: 0, exact: true, gone: range.gone, retainedSince, before: range.before };
  if (range.from_id === null || range.until_id === null) return { ...nothing, fromId: null, untilId: null };
  const { rows } = await client.query<{ id: string; events: string }>({
    text: `
      with stored as (
        insert into ${schema}.replay (
          callback, from_id, until_id, read_id, since, until, from_position, tables, seen, ahead, ahead_id)
        values ($1, $2::bigint, $3::bigint, $2::bigint - 1, $4::timestamptz, $5::timestamptz, $6::pg_snapshot, $7::json,
          $9::pg_snapshot, $10::pg_snapshot, $11::bigint)
        returning replay as one
      )
      select (one).id::text, ${schema}.count_replay(one, $8::json, ${REPLAY_COUNT_LIMIT}) as events from stored`,
    values: [
      callback,
      range.from_id,
      untilId === null || BigInt(untilId) > BigInt(range.until_id) ? range.until_id : untilId,
      from.kind === "Time" ? from.since : null,
      until,
      from.kind === "Position" ? from.snapshot : null,
      tables === null ? null : JSON.stringify(tables.map((table) => [table.schema, table.name])),
      JSON.stringify(wanted),
      had.seen,
      had.ahead,
      had.aheadId,
    ],
  });
  const events = Number(rows[0]?.events);
  const stored = mode === "apply" && events > 0;
  if (stored) await tellWorkers(client, channel);
  return {
    ...nothing,
    id: stored ? (rows[0]?.id ?? null) : null,
    events,
    exact: events < REPLAY_COUNT_LIMIT,
    fromId: range.from_id,
    untilId: range.until_id,
  };
}

/** What the callback surely had: where its lanes are shared out, in all of them. */
async function positionOf(client: ClientBase, schema: string, callback: string): Promise<Position> {
  const { rows } = await client.query<Position>({
    text: `
      select seen::text, ahead::text, ahead_id::text as "aheadId" from ${schema}.lease where callback = $1
      union all
      select seen::text, ahead::text, ahead_id::text from ${schema}.callback
      where name = $1 and not exists (select from ${schema}.lease where callback = $1)`,
    values: [callback],
  });
  const least = leastPosition(rows);
  if (least === undefined)
    throw new PgEventsError("PGE_NOT_BUILT", `The database does not know the callback ${callback} yet.`, {
      remedy: "Run `pg-events build` with the same manifest.",
    });
  return least;
}

interface RangeRow {
  from_id: string | null;
  until_id: string | null;
  retained_since: string | null;
  gone: boolean;
  before: number;
}

/**
 * Which ids to read, and whether something before the first of them may be gone. Ids and times grow together but
 * for moments, so what is younger than a row that is younger than all that is gone is there.
 */
async function readRange(client: ClientBase, schema: string, request: ReplayRequest): Promise<RangeRow> {
  const { from, callback } = request;
  const value = from.kind === "Time" ? from.since : from.kind === "Id" ? from.id : from.snapshot;
  const first = {
    Time: "at >= $2::timestamptz",
    Id: "id >= $2::bigint",
    Position: "not pg_visible_in_snapshot(xid, $2::pg_snapshot)",
  }[from.kind];
  const kept = {
    Time: "$2::timestamptz > gone_until",
    Id: `exists (select from ${schema}.outbox where id <= $2::bigint and at > gone_until)`,
    Position: `exists (select from ${schema}.outbox where pg_visible_in_snapshot(xid, $2::pg_snapshot) and at > gone_until)`,
  }[from.kind];
  const { rows } = await client.query<RangeRow>({
    text: `
      select (select min(id) from ${schema}.logged(false) where ${first})::text as from_id,
        (select max(id) from ${schema}.outbox)::text as until_id,
        ${rfc3339("gone_until", "microseconds")} as retained_since,
        gone_until is not null and not (${kept}) as gone,
        (select count(*) from ${schema}.replay where callback = $1 and finished_at is null)::integer as before
      from ${schema}.installation`,
    values: [callback, value],
  });
  const row = rows[0];
  if (row === undefined) throw new PgEventsError("PGE_NOT_BUILT", "The database has no capture.");
  return row;
}

async function checkPosition(client: ClientBase, snapshot: string): Promise<void> {
  await client.query("savepoint position");
  try {
    await client.query("select $1::pg_snapshot", [snapshot]);
  } catch {
    throw new PgEventsError("PGE_FLAG_INVALID", `--from-position: ${snapshot} is no position.`, {
      remedy: "Use one that `pg-events status` has shown, like 741:745:742.",
    });
  }
  await client.query("release savepoint position");
}

function notRetained(since: string | null): PgEventsError {
  return new PgEventsError(
    "PGE_REPLAY_NOT_RETAINED",
    `Events from before ${since} are not in the outbox any more.`,
    { remedy: "Begin later, or take what is there with --available." },
  );
}

export type ReplayState = "Queued" | "Running" | "Done" | "Cancelled";

export interface Replay {
  readonly id: string;
  readonly callback: string;
  readonly state: ReplayState;
  readonly fromId: string;
  readonly untilId: string;
  /** Ids up to here have been looked at. */
  readonly readId: string;
  /** Events found so far; of these, so many lie ready or under way. */
  readonly events: number;
  readonly left: number;
  readonly deadLetters: number;
  /** A part of the range was dropped at the outbox's limit before it was read. */
  readonly incomplete: boolean;
  /** RFC 3339. */
  readonly requestedAt: string;
  readonly finishedAt: string | null;
}

/** The newest first. @param callback null: of every one */
export async function listReplays(
  client: ClientBase,
  { schema }: CaptureNames,
  callback: string | null,
): Promise<Replay[]> {
  const { rows } = await client.query<Replay>({
    text: `
      select id::text, callback,
        case when cancelled then 'Cancelled' when finished_at is not null then 'Done'
          when id = min(id) filter (where finished_at is null) over (partition by callback) then 'Running'
          else 'Queued' end as state,
        from_id::text as "fromId", until_id::text as "untilId", read_id::text as "readId", events::float8 as events,
        (select count(*) from ${schema}.parked where parked.callback = replay.callback and parked.replay = replay.id)::float8 as left,
        (select count(*) from ${schema}.dead_letter where dead_letter.callback = replay.callback and dead_letter.replay = replay.id)::float8 as "deadLetters",
        incomplete, ${rfc3339("requested_at")} as "requestedAt", ${rfc3339("finished_at")} as "finishedAt"
      from ${schema}.replay
      where $1::text is null or callback = $1
      order by replay.id desc
      limit 100`,
    values: [callback],
  });
  return rows;
}

/** Ends a replay; what a worker has in its hands is still delivered. @returns false: it was over, or never was */
export async function cancelReplay(
  client: ClientBase,
  { schema }: CaptureNames,
  id: string,
): Promise<boolean> {
  const { rowCount } = await client.query({
    text: `
      with ended as (
        update ${schema}.replay set finished_at = clock_timestamp(), cancelled = true
        where id = $1::bigint and finished_at is null
        returning callback, id
      ), freed as (
        delete from ${schema}.parked using ended
        where parked.callback = ended.callback and parked.replay = ended.id and not taken
      )
      select from ended`,
    values: [id],
  });
  return rowCount === 1;
}
