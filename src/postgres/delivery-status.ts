/** What the outbox says about delivery, for status and metrics. Cheap: counting stops at COUNT_LIMIT. */
import type { ClientBase, Pool } from "pg";
import type { Losses } from "../core/capture/backlog.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { rfc3339 } from "./rfc3339.ts";

const COUNT_LIMIT = 10_000;

export interface CallbackDelivery {
  readonly name: string;
  /** Workers hold all of the callback's lanes now. */
  readonly held: boolean;
  readonly state: string;
  /** Short text of the last failed attempt; never a response body. */
  readonly lastError: string | null;
  /** RFC 3339. */
  readonly stateSince: string;
  /** Events not acknowledged; exact up to 10,000, an estimate from ids above. */
  readonly pending: number;
  /** Age of the oldest pending event in seconds, by the database's clock; 0 without one. */
  readonly oldestAgeSeconds: number;
  /** When it was written, RFC 3339; null without one. */
  readonly oldestPendingTime: string | null;
  readonly deadLetters: number;
  /** Events of keys whose attempts fail for long, and what came after them; not among `pending`. */
  readonly parked: number;
  /** Dead letters that are delivered again, replayed events, and dead letters of others, which lie ready. */
  readonly resending: number;
  /** Events that `backlog.onLimit` took before the callback had them. */
  readonly lostEvents: number;
}

/** Reads how the callbacks fare, in name order. Callbacks that no build has added are missing. */
export async function readDeliveryStatus(
  client: ClientBase | Pool,
  names: CaptureNames,
  callbacks: readonly string[],
): Promise<CallbackDelivery[]> {
  const { rows } = await client.query<DeliveryRow>({
    text: statusQuery(names.schema),
    values: [callbacks, COUNT_LIMIT],
  });
  return rows.map((row) => ({
    name: row.name,
    held: row.held,
    state: row.state,
    lastError: row.last_error,
    stateSince: row.state_since,
    pending: row.counted < COUNT_LIMIT ? row.counted : Math.max(COUNT_LIMIT, Number(row.id_distance)),
    oldestAgeSeconds: Math.max(0, Number(row.oldest_age)),
    oldestPendingTime: row.oldest_time,
    deadLetters: Number(row.dead_letters),
    parked: Number(row.parked),
    resending: Number(row.resending),
    lostEvents: Number(row.lost_events),
  }));
}

/** What `backlog.onLimit` has taken lately, and what `onError` has skipped. */
export async function readLosses(client: ClientBase | Pool, names: CaptureNames): Promise<Losses> {
  const lately = (kinds: string) =>
    rfc3339(
      `max(lost_at) filter (where ${kinds} and ended_at is not null and lost_at > now() - interval '1 hour')`,
    );
  const { rows } = await client.query<Losses>(`
    select ${rfc3339("max(started_at) filter (where ended_at is null)")} as "pausedSince",
      ${lately("kind <> 'Skipped'")} as "lostAt",
      ${lately("kind = 'Skipped'")} as "skippedAt",
      coalesce(pg_sequence_last_value('${names.schema}.skipped_changes'::regclass), 0)::float8 as "skippedChanges"
    from (select *, case kind when 'Dropped' then at else ended_at end as lost_at from ${names.schema}.loss) as loss`);
  return rows[0] as Losses;
}

interface DeliveryRow {
  name: string;
  held: boolean;
  state: string;
  last_error: string | null;
  state_since: string;
  counted: number;
  id_distance: string;
  oldest_age: string;
  oldest_time: string | null;
  dead_letters: string;
  parked: string;
  resending: string;
  lost_events: string;
}

/** Where lanes are shared out: held when every part is, and Failing when one is. */
const statusQuery = (schema: string) => `
  select
    callback.name,
    coalesce(shared.held, callback.expires_at > clock_timestamp() and callback.holder is not null, false) as held,
    coalesce(shared.state, callback.state) as state,
    case when shared.state is null then callback.last_error else shared.last_error end as last_error,
    ${rfc3339("coalesce(shared.state_since, callback.state_since)")} as state_since,
    pending.counted::integer as counted,
    greatest((select last_value from ${schema}.outbox_id) - coalesce(callback.ahead_id, pending.first_id, 0), 0)::text as id_distance,
    coalesce(extract(epoch from clock_timestamp() - pending.oldest), 0)::text as oldest_age,
    ${rfc3339("pending.oldest")} as oldest_time,
    (select count(*) from ${schema}.dead_letter where dead_letter.callback = callback.name)::text as dead_letters,
    resent.parked::text,
    resent.resending::text,
    callback.lost_events::text
  from ${schema}.callback
  cross join lateral ${schema}.pending_events(callback.name, $2::integer) as pending
  cross join lateral (
    select count(*) filter (where replay is null and letter_of = '') as parked,
      count(*) filter (where replay is not null or letter_of <> '') as resending
    from ${schema}.parked
    where parked.callback = callback.name
  ) as resent
  cross join lateral (
    select
      bool_and(coalesce(expires_at > clock_timestamp() and holder is not null, false)) as held,
      case when bool_or(state = 'Failing') then 'Failing' when bool_or(state = 'Waiting') then 'Waiting' else max(state) end as state,
      max(last_error) filter (where state = 'Failing') as last_error,
      max(state_since) as state_since
    from ${schema}.lease
    where lease.callback = callback.name
  ) as shared
  where callback.name = any ($1::text[])
  order by callback.name`;
