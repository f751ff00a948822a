/**
 * The lease on a callback and its position, both in one row. A holder's term is part of every write:
 * a holder that lost its lease while it was frozen changes nothing when it wakes. Time is the
 * database's. A lease ends by expiry, by release, or at once when the database session that its
 * holder named is gone (not behind a transaction pooler).
 *
 * A lease is good for one life of the server (current_life in sql/functions_backlog.sql). What a relay read
 * before a crash or a failover may never have happened, and its transaction ids may be given out again: it
 * starts anew from the position that is stored, which is as old as the rows beside it.
 */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import type { Position } from "../core/delivery/position.ts";

/** A database session, by which others see that the holder is alive. */
export interface HolderSession {
  readonly pid: number;
  readonly startedAt: string;
}

export interface Holder {
  readonly id: string;
  readonly session: HolderSession | null;
  readonly leaseSeconds: number;
}

export interface AcquiredLease {
  readonly callback: string;
  readonly term: string;
  readonly position: Position;
}

type AcquiredRow = [
  name: string,
  term: string,
  seen: string,
  ahead: string | null,
  aheadId: string | null,
  life: string | null,
];

export type CallbackState = "Delivering" | "Failing" | "Waiting";

export class CallbackLeases {
  readonly #pool: Pool;
  readonly #table: string;
  readonly #schema: string;
  /** The server's life in which each lease was taken. */
  readonly #lives = new Map<string, string | null>();

  constructor(pool: Pool, names: CaptureNames) {
    this.#pool = pool;
    this.#schema = names.schema;
    this.#table = `${names.schema}.callback`;
  }

  /** Takes the leases of those callbacks that nobody holds any more. */
  async acquire(callbacks: readonly string[], holder: Holder): Promise<AcquiredLease[]> {
    await this.#pool.query(`select ${this.#schema}.follow_server()`);
    const { rows } = await this.#pool.query<AcquiredRow>({
      text: `
        update ${this.#table}
        set holder = $2, term = term + 1,
          expires_at = clock_timestamp() + make_interval(secs => $3),
          holder_pid = $4, holder_started = $5
        where name = any ($1)
          and (holder is null or holder = $2 or expires_at < clock_timestamp()
            or (holder_pid is not null and not exists (
              select from pg_catalog.pg_stat_activity
              where pid = holder_pid and backend_start = holder_started)))
        returning name, term::text, seen::text, ahead::text, ahead_id::text, ${this.#schema}.current_life()`,
      values: [callbacks, holder.id, holder.leaseSeconds, holder.session?.pid, holder.session?.startedAt],
      rowMode: "array",
    });
    return rows.map(([callback, term, seen, ahead, aheadId, life]) => {
      this.#lives.set(callback, life);
      return { callback, term, position: { seen, ahead, aheadId } };
    });
  }

  /** Extends the leases of this holder; returns the callbacks that it still holds. */
  async renew(held: readonly { callback: string; term: string }[], holder: Holder): Promise<string[]> {
    const { rows } = await this.#pool.query<[string]>({
      text: `
        update ${this.#table} as callback
        set expires_at = clock_timestamp() + make_interval(secs => $3),
          holder_pid = $4, holder_started = $5
        from unnest($1::text[], $6::bigint[], $7::text[]) as held (name, term, life)
        where callback.name = held.name and callback.term = held.term and callback.holder = $2
          and held.life = (select ${this.#schema}.current_life())
        returning callback.name`,
      values: [
        held.map(({ callback }) => callback),
        holder.id,
        holder.leaseSeconds,
        holder.session?.pid,
        holder.session?.startedAt,
        held.map(({ term }) => term),
        held.map(({ callback }) => this.#lives.get(callback)),
      ],
      rowMode: "array",
    });
    return rows.map(([name]) => name);
  }

  /** Gives a lease back, so that another worker need not wait for its end. */
  async release(callback: string, term: string): Promise<void> {
    await this.#pool.query({
      text: `
        update ${this.#table}
        set holder = null, expires_at = null, holder_pid = null, holder_started = null,
          state = case when state = 'Failing' then state else 'Waiting' end
        where name = $1 and term = $2::bigint`,
      values: [callback, term],
    });
  }

  /** Stores the position. @returns false when the lease is lost: nothing was written */
  async checkpoint(callback: string, term: string, position: Position): Promise<boolean> {
    const { rowCount } = await this.#pool.query({
      name: "pgevents_checkpoint",
      text: `
        update ${this.#table}
        set seen = $3::pg_snapshot, ahead = $4::pg_snapshot, ahead_id = $5::bigint
        where name = $1 and term = $2::bigint and holder is not null
          and $6 = (select ${this.#schema}.current_life())`,
      values: [callback, term, position.seen, position.ahead, position.aheadId, this.#lives.get(callback)],
    });
    return rowCount === 1;
  }

  /** Notes how the callback fares, for status. `lastError` must hold nothing secret. */
  async setState(
    callback: string,
    term: string,
    state: CallbackState,
    lastError: string | null,
  ): Promise<void> {
    await this.#pool.query({
      text: `
        update ${this.#table}
        set state = $3, last_error = $4, state_since = case when state = $3 then state_since else now() end
        where name = $1 and term = $2::bigint`,
      values: [callback, term, state, lastError],
    });
  }
}
