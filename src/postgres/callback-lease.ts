/**
 * Who relays a callback. A lease is on the callback as a whole, in its own row together with its position; or,
 * once its lanes are shared out, on some of them, in a row of the table `lease` (sql/000004_lanes.sql). A
 * holder's term is part of every write: a holder that lost its lease while it was frozen changes nothing when
 * it wakes. Time is the database's. A lease ends by expiry, by release, or at once when the database session
 * that its holder named is gone (not behind a transaction pooler).
 *
 * A lease is good for one life of the server (current_life in sql/functions_backlog.sql). What a relay read
 * before a crash or a failover may never have happened, and its transaction ids may be given out again: it
 * starts anew from the position that is stored, which is as old as the rows beside it.
 */
import type { ClientBase, Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import { ALL_LANES, type LanePart } from "../core/delivery/lanes.ts";
import { leastPosition, type Position } from "../core/delivery/position.ts";
import { PROMPT } from "./silent-connections.ts";

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

export interface Lease {
  readonly callback: string;
  /** 0: the callback as a whole. */
  readonly part: number;
  /** Bit n: lane n. */
  readonly lanes: number;
  readonly term: string;
  /** Where the holder began, or where it was when it last gave lanes away. */
  readonly position: Position;
  /** Ids of events beyond the position that are done all the same: an earlier holder had them. */
  readonly passed: readonly string[];
  /** Of the server, when the lease was taken. */
  readonly life: string | null;
}

/** Who has which lanes of a callback, and who is there to have some. */
export interface LaneView {
  readonly parts: readonly LanePart[];
  readonly workers: readonly string[];
}

export type CallbackState = "Delivering" | "Failing" | "Waiting";

type LeaseKey = Pick<Lease, "callback" | "part" | "term">;

export class CallbackLeases {
  readonly #pool: Pool;
  readonly #schema: string;
  readonly #channel: string;

  constructor(pool: Pool, names: CaptureNames) {
    this.#pool = pool;
    this.#schema = names.schema;
    this.#channel = names.channel;
  }

  /** Says that this worker is alive and relays these callbacks. @returns whether the others did not know it */
  async announce(callbacks: readonly string[], { id, session, leaseSeconds }: Holder): Promise<boolean> {
    await this.#pool.query(`select ${this.#schema}.follow_server()`);
    const { rows } = await this.#pool.query<{ unknown: boolean }>({
      ...PROMPT,
      text: `
        insert into ${this.#schema}.worker (id, callbacks, expires_at, pid, started)
        values ($1, $2, clock_timestamp() + make_interval(secs => $3), $4, $5)
        on conflict (id) do update
        set callbacks = excluded.callbacks, expires_at = excluded.expires_at, pid = excluded.pid, started = excluded.started
        returning xmax = 0 as unknown`,
      values: [id, callbacks, leaseSeconds, session?.pid, session?.startedAt],
    });
    return rows[0]?.unknown === true;
  }

  /** This worker takes no lanes any more. */
  async withdraw(id: string): Promise<void> {
    await this.#pool.query({
      text: `delete from ${this.#schema}.worker where id = $1 or expires_at < clock_timestamp() - interval '1 hour'`,
      values: [id],
    });
  }

  /** Lets the other workers look at the lanes now. */
  async tellOthers(): Promise<void> {
    await tellWorkers(this.#pool, this.#channel);
  }

  /** Who has which lanes; callbacks that no build has added are missing. */
  async look(callbacks: readonly string[]): Promise<Map<string, LaneView>> {
    const { rows } = await this.#pool.query<{
      name: string;
      part: number;
      lanes: string;
      holder: string | null;
    }>({
      ...PROMPT,
      text: `
        select callback.name, coalesce(lease.part, 0) as part, coalesce(lease.lanes, ${ALL_LANES}) as lanes,
          case when lease.part is null
            then case when ${this.#alive("callback")} then callback.holder end
            else case when ${this.#alive("lease")} then lease.holder end end as holder
        from ${this.#schema}.callback
        left join ${this.#schema}.lease on lease.callback = callback.name
        where callback.name = any ($1)
        order by callback.name, lease.part`,
      values: [callbacks],
    });
    const workers = await this.#pool.query<{ id: string; callbacks: string[] }>(`
      select id, callbacks from ${this.#schema}.worker
      where ${this.#schema}.is_alive(expires_at, pid, started) order by id`);
    return new Map(
      callbacks
        .filter((callback) => rows.some(({ name }) => name === callback))
        .map((callback) => [
          callback,
          {
            parts: rows
              .filter(({ name }) => name === callback)
              .map(({ part, lanes, holder }) => ({ part, lanes: Number(lanes), holder })),
            workers: workers.rows.filter((one) => one.callbacks.includes(callback)).map(({ id }) => id),
          },
        ]),
    );
  }

  /** Takes lanes of a part that nobody holds any more. @returns whether they were to be had */
  async take(callback: string, part: number, lanes: number, holder: Holder): Promise<boolean> {
    const { rows } = await this.#pool.query<{ taken: boolean }>({
      text: `select ${this.#schema}.take_lanes($1, $2, $3, $4, $5, $6, $7) as taken`,
      values: [
        callback,
        part,
        lanes,
        holder.id,
        holder.leaseSeconds,
        holder.session?.pid,
        holder.session?.startedAt,
      ],
    });
    return rows[0]?.taken === true;
  }

  /** What a worker holds of a callback now, with its positions. */
  async held(callback: string, holder: string): Promise<Lease[]> {
    const { rows } = await this.#pool.query<HeldRow>({
      text: `
        select 0, ${ALL_LANES}, term::text, seen::text, ahead::text, ahead_id::text, ${this.#schema}.current_life(), passed::text[]
        from ${this.#schema}.callback where name = $1 and holder = $2
        union all
        select part, lanes, term::text, seen::text, ahead::text, ahead_id::text, ${this.#schema}.current_life(), passed::text[]
        from ${this.#schema}.lease where callback = $1 and holder = $2
        order by 1`,
      values: [callback, holder],
      rowMode: "array",
    });
    return rows.map(([part, lanes, term, seen, ahead, aheadId, life, passed]) => ({
      callback,
      part,
      lanes: Number(lanes),
      term,
      position: { seen, ahead, aheadId },
      passed: passed ?? [],
      life,
    }));
  }

  /** Extends the leases of this holder. @returns those that it still holds */
  async renew<L extends Lease>(held: readonly L[], holder: Holder): Promise<L[]> {
    if (held.length === 0) return [];
    const kept = new Set<string>();
    for (const [table, key, part, mine] of [
      ["callback", "name", "0", held.filter((lease) => lease.part === 0)],
      ["lease", "callback", "leased.part", held.filter((lease) => lease.part !== 0)],
    ] as const) {
      if (mine.length === 0) continue;
      const { rows } = await this.#pool.query<[string, number]>({
        ...PROMPT,
        text: `
          update ${this.#schema}.${table} as leased
          set expires_at = clock_timestamp() + make_interval(secs => $3), holder_pid = $4, holder_started = $5
          from unnest($1::text[], $6::integer[], $7::bigint[], $8::text[]) as held (callback, part, term, life)
          where leased.${key} = held.callback and ${part} = held.part and leased.term = held.term
            and leased.holder = $2 and held.life = (select ${this.#schema}.current_life())
          returning held.callback, held.part`,
        values: [
          mine.map(({ callback }) => callback),
          holder.id,
          holder.leaseSeconds,
          holder.session?.pid,
          holder.session?.startedAt,
          mine.map((lease) => lease.part),
          mine.map(({ term }) => term),
          mine.map(({ life }) => life),
        ],
        rowMode: "array",
      });
      for (const row of rows) kept.add(row.join("/"));
    }
    return held.filter((lease) => kept.has(`${lease.callback}/${lease.part}`));
  }

  /** Gives lanes away, so that another worker need not wait for the end of the lease. */
  async give({ callback, part, term }: LeaseKey, lanes: number): Promise<void> {
    await this.#pool.query({
      text: `select ${this.#schema}.give_lanes($1, $2, $3, $4)`,
      values: [callback, part, term, lanes],
    });
  }

  /** Gives a lease back. */
  async release({ callback, part, term }: LeaseKey): Promise<void> {
    await this.#pool.query({
      text: `
        update ${this.#schema}.${part === 0 ? "callback" : "lease"}
        set holder = null, expires_at = null, holder_pid = null, holder_started = null,
          state = case when state = 'Failing' then state else 'Waiting' end
        where ${part === 0 ? "name = $1 and $2 = 0" : "callback = $1 and part = $2"} and term = $3::bigint`,
      values: [callback, part, term],
    });
  }

  /** Makes one lease of several that are at the same position. */
  async merge(leases: readonly Lease[]): Promise<void> {
    const sorted = [...leases].sort((a, b) => a.part - b.part);
    await this.#pool.query({
      text: `select ${this.#schema}.merge_parts($1, $2::integer[], $3::bigint[])`,
      values: [sorted[0]?.callback, sorted.map(({ part }) => part), sorted.map(({ term }) => term)],
    });
  }

  /** Of a callback whose lanes are shared out: notes the position that all are past, and forgets old windows. */
  async followLanes(callback: string): Promise<void> {
    const { rows } = await this.#pool.query<Position>({
      text: `select seen::text, ahead::text, ahead_id::text as "aheadId" from ${this.#schema}.lease where callback = $1`,
      values: [callback],
    });
    const last = leastPosition(rows);
    if (last === undefined) return;
    await this.#pool.query({
      text: `
        update ${this.#schema}.callback set seen = $2::pg_snapshot, ahead = $3::pg_snapshot, ahead_id = $4
        where name = $1 and exists (select from ${this.#schema}.lease where lease.callback = $1)
          and (seen::text, ahead::text, ahead_id) is distinct from ($2::text, $3::text, $4::bigint)`,
      values: [callback, last.seen, last.ahead, last.aheadId],
    });
    await this.#pool.query({ text: `select ${this.#schema}.forget_windows($1)`, values: [callback] });
  }

  /** Notes how the callback fares, for status. `lastError` must hold nothing secret. */
  async setState(
    { callback, part, term }: LeaseKey,
    state: CallbackState,
    lastError: string | null,
  ): Promise<void> {
    await this.#pool.query({
      text: `
        update ${this.#schema}.${part === 0 ? "callback" : "lease"}
        set state = $4, last_error = $5, state_since = case when state = $4 then state_since else now() end
        where ${part === 0 ? "name = $1 and $2 = 0" : "callback = $1 and part = $2"} and term = $3::bigint`,
      values: [callback, part, term, state, lastError],
    });
  }

  #alive(table: string): string {
    return `${this.#schema}.is_alive(${table}.expires_at, ${table}.holder_pid, ${table}.holder_started)`;
  }
}

/** Payload of the notification that there is something for workers to see: lanes, or events to be delivered again. */
export const LANES_CHANGED = "lanes";

/** Lets workers look now for lanes that are to be had or wanted, and for what lies ready to be delivered again. */
export async function tellWorkers(client: ClientBase | Pool, channel: string): Promise<void> {
  await client.query({ text: "select pg_catalog.pg_notify($1, $2)", values: [channel, LANES_CHANGED] });
}

type HeldRow = [
  part: number,
  lanes: string,
  term: string,
  seen: string,
  ahead: string | null,
  aheadId: string | null,
  life: string | null,
  passed: string[] | null,
];
