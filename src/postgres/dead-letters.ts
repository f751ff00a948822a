/** Dead letters: whole events, so that they outlive the outbox segment they came from. */
import type { ClientBase, Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import { tellWorkers } from "./callback-lease.ts";
import { EVENT_OPERATIONS } from "./event-text.ts";
import { rfc3339 } from "./rfc3339.ts";
import { bare, readably } from "./unreadable.ts";

const COLUMNS =
  "id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version";

export interface BuriedEvent {
  readonly callback: string;
  readonly transactionId: string;
  readonly id: string;
  readonly attempts: number;
  readonly error: string;
  /** It is a dead letter of that callback already; empty: it is not. */
  readonly letterOf: string;
  /** The callback that gets it now; null: none. */
  readonly forward: string | null;
}

/**
 * Makes a dead letter of an event, which is parked or in the outbox. Storing the same event twice keeps one row.
 * @returns once the dead letter is durable: true; false when the event was dropped before
 */
export async function storeDeadLetter(
  pool: Pool,
  { schema }: CaptureNames,
  { callback, transactionId, id, attempts, error, letterOf, forward }: BuriedEvent,
): Promise<boolean> {
  const { rows } = await pool.query<{ stored: boolean }>({
    text: `
      with freed as (
        delete from ${schema}.parked where callback = $1 and id = $3::bigint and letter_of = $6
        returning ${COLUMNS}, letter, replay
      ), event as materialized (
        select * from freed
        union all
        select ${COLUMNS}, null, null from ${schema}.change_events()
        where xid = $2::xid8 and id = $3::bigint and not exists (select from freed)
      ), buried as (
        insert into ${schema}.dead_letter (callback, ${COLUMNS}, letter, replay, letter_of, attempts, error)
        select $1, ${COLUMNS}, letter, replay, $6, $4, $5 from event
        on conflict (callback, id, letter_of) do update
        set attempts = excluded.attempts, error = excluded.error, replay = excluded.replay, failed_at = now()
        returning 1
      ), forwarded as (
        insert into ${schema}.parked (callback, ${COLUMNS}, letter_of, letter, attempts, taken)
        select $7, ${COLUMNS}, concat_ws('/', nullif($6, ''), $1), json_build_object('error', $5::text, 'attempts', $4::integer), 0, false
        from event
        where $7::text is not null
        on conflict do nothing -- it is on its way there
      )
      select exists (select from buried) as stored`,
    values: [callback, transactionId, id, attempts, error, letterOf, forward],
  });
  return rows[0]?.stored === true;
}

/** Which dead letters a command is about. */
export interface DeadLetterFilter {
  /** Null: of every callback. */
  readonly callback: string | null;
  readonly ids: readonly string[] | null;
  readonly table: { readonly schema: string; readonly name: string } | null;
  /** Part of the text of the error, small and capital letters alike. */
  readonly error: string | null;
  /** RFC 3339; when they became dead letters, from and before. */
  readonly since: string | null;
  readonly until: string | null;
}

/** A dead letter without the row it is about. */
export interface DeadLetterLine {
  readonly callback: string;
  readonly id: string;
  /** Callbacks whose dead letter it was before, with `/`; null: it is an event of its callback's own. */
  readonly letterOf: string | null;
  readonly operation: string;
  readonly schema: string;
  readonly table: string;
  /** JSON array text. */
  readonly key: string | null;
  readonly attempts: number;
  readonly error: string;
  /** RFC 3339: of the change, and of the last attempt. */
  readonly time: string;
  readonly failedAt: string;
  readonly bytes: number;
}

/** The newest first. @param after what the page before ended with */
export async function listDeadLetters(
  client: ClientBase,
  { schema }: CaptureNames,
  filter: DeadLetterFilter,
  { limit, after }: { readonly limit: number; readonly after: DeadLetterLine | null },
): Promise<DeadLetterLine[]> {
  const { rows } = await readably(schema, ({ text }) =>
    client.query<DeadLetterLine>({
      text: `
      select callback, id::text, nullif(letter_of, '') as "letterOf", operation,
        ${text("schema_name")} as schema, ${text("table_name")} as table, ${text("key")} as key, attempts, error,
        ${rfc3339("at", "microseconds")} as time, ${rfc3339("failed_at", "microseconds")} as "failedAt",
        coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0) as bytes
      from ${schema}.dead_letter
      where ${CONDITIONS}
        and ($7::timestamptz is null or (failed_at, callback, dead_letter.id, letter_of) < ($7, $8, $9, $10))
      order by failed_at desc, callback desc, dead_letter.id desc, letter_of desc
      limit $11`,
      values: [
        ...valuesOf(filter),
        after?.failedAt ?? null,
        after?.callback ?? null,
        after?.id ?? null,
        after?.letterOf ?? "",
        limit,
      ],
    }),
  );
  return rows.map((row) => ({
    ...row,
    operation: EVENT_OPERATIONS[row.operation] ?? row.operation,
    schema: bare(row.schema),
    table: bare(row.table),
    key: row.key && bare(row.key),
  }));
}

export async function countDeadLetters(
  client: ClientBase,
  { schema }: CaptureNames,
  filter: DeadLetterFilter,
): Promise<number> {
  const { rows } = await client.query<{ count: string }>({
    text: `select count(*) from ${schema}.dead_letter where ${CONDITIONS}`,
    values: valuesOf(filter),
  });
  return Number(rows[0]?.count);
}

/** Deletes them. @returns how many */
export async function discardDeadLetters(
  client: ClientBase,
  { schema }: CaptureNames,
  filter: DeadLetterFilter,
): Promise<number> {
  const { rowCount } = await client.query({
    text: `delete from ${schema}.dead_letter where ${CONDITIONS}`,
    values: valuesOf(filter),
  });
  return rowCount ?? 0;
}

/** Lays them ready for their callbacks, whose workers are told. In one transaction. @returns how many */
export async function redeliverDeadLetters(
  client: ClientBase,
  { schema, channel }: CaptureNames,
  filter: DeadLetterFilter,
): Promise<number> {
  const { rows } = await client.query<{ count: string }>({
    text: `
      select coalesce(sum(redelivered), 0)::text as count
      from (
        select ${schema}.redeliver(callback, array_agg(id), array_agg(letter_of)) as redelivered
        from ${schema}.dead_letter
        where ${CONDITIONS}
        group by callback
      ) as done`,
    values: valuesOf(filter),
  });
  await tellWorkers(client, channel);
  return Number(rows[0]?.count);
}

const CONDITIONS = `
  ($1::text is null or callback = $1)
  and ($2::bigint[] is null or dead_letter.id = any ($2))
  and ($3::text is null or (schema_name = $3 and $4::text in ('*', table_name)))
  and ($5::text is null or strpos(lower(error), lower($5)) > 0)
  and failed_at >= coalesce(($6::text[])[1]::timestamptz, '-infinity')
  and failed_at < coalesce(($6::text[])[2]::timestamptz, 'infinity')`;

function valuesOf({ callback, ids, table, error, since, until }: DeadLetterFilter): unknown[] {
  return [callback, ids, table?.schema ?? null, table?.name ?? null, error, [since, until]];
}
