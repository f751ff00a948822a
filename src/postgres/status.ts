/** What `pg-events status` tells besides the delivery status: positions, holders, segments. */
import type { ClientBase } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import type { Position } from "../core/delivery/position.ts";
import { rfc3339 } from "./rfc3339.ts";

export interface CallbackHolders {
  readonly name: string;
  /** Workers and how many of the 32 lanes they hold, by the latest lease. */
  readonly holders: readonly { readonly worker: string; readonly lanes: number }[];
  readonly position: Position;
}

export async function readHolders(
  client: ClientBase,
  { schema }: CaptureNames,
  callbacks: readonly string[],
): Promise<CallbackHolders[]> {
  const { rows } = await client.query<CallbackHolders>({
    text: `
      select name, json_build_object('seen', seen::text, 'ahead', ahead::text, 'aheadId', ahead_id::text) as position,
        coalesce((
          select json_agg(json_build_object('worker', held.holder, 'lanes', held.lanes) order by held.holder)
          from (
            select holder, sum(lanes)::integer as lanes
            from (
              select callback.holder, 32 as lanes, callback.expires_at, callback.holder_pid, callback.holder_started
              union all
              select lease.holder, length(replace(lease.lanes::bit(32)::text, '0', '')), lease.expires_at, lease.holder_pid, lease.holder_started
              from ${schema}.lease where lease.callback = callback.name
            ) as every
            where holder is not null and ${schema}.is_alive(expires_at, holder_pid, holder_started)
            group by holder
          ) as held), '[]') as holders
      from ${schema}.callback
      where name = any ($1::text[])
      order by name`,
    values: [callbacks],
  });
  return rows;
}

/** Bytes of the outbox on disk, and since when everything is in it; null: nothing was emptied yet. */
export async function readOutboxSize(
  client: ClientBase,
  { schema }: CaptureNames,
): Promise<{ readonly bytes: number; readonly retainedSince: string | null }> {
  const { rows } = await client.query<{ bytes: number; retainedSince: string | null }>(`
    select sum(pg_total_relation_size(('${schema}.outbox_' || number)::regclass))::float8 as bytes,
      (select ${rfc3339("gone_until")} from ${schema}.installation) as "retainedSince"
    from ${schema}.segment`);
  return rows[0] as { bytes: number; retainedSince: string | null };
}
