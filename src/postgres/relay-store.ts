/**
 * What a relay writes: its position, parked events and dead letters. Each write names the leases it is made
 * under; a holder that lost one while it was frozen changes nothing when it wakes.
 */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import type { OthersAt } from "../core/delivery/crossing.ts";
import { type Entry, NOTHING, ofParkedId, type ParkedEvent, type ReadEvent } from "../core/delivery/entry.ts";
import type { WantedEvents } from "../core/delivery/filter.ts";
import { joinLanes } from "../core/delivery/lanes.ts";
import type { Position } from "../core/delivery/position.ts";
import type { Lease } from "./callback-lease.ts";
import { storeDeadLetter } from "./dead-letters.ts";
import { type OutboxReader, type ResentFields, resentOf } from "./outbox.ts";
import { PROMPT } from "./silent-connections.ts";
import { bare, readably } from "./unreadable.ts";

export interface DeadLetter {
  readonly id: string;
  readonly transactionId: string;
  readonly attempts: number;
  readonly error: string;
  /** It is a dead letter of that callback already; empty: it is not. */
  readonly letterOf: string;
}

type ParkedRow = [
  id: string,
  xid: string,
  schema: string,
  table: string,
  key: string | null,
  oldKey: string | null,
  bytes: number,
  attempts: number,
  ...ResentFields,
];

export class RelayStore {
  readonly #pool: Pool;
  readonly #names: CaptureNames;
  readonly #reader: OutboxReader;
  readonly #callback: string;
  readonly #leases: readonly Lease[];
  readonly #parts: readonly number[];
  readonly #terms: readonly string[];
  readonly #life: string | null;

  /** @param leases of one callback: the callback as a whole, or parts of its lanes */
  constructor(pool: Pool, names: CaptureNames, reader: OutboxReader, leases: readonly Lease[]) {
    this.#pool = pool;
    this.#names = names;
    this.#reader = reader;
    this.#leases = [...leases].sort((a, b) => a.part - b.part);
    this.#callback = leases[0]?.callback ?? "";
    this.#parts = this.#leases.map(({ part }) => part);
    this.#terms = this.#leases.map(({ term }) => term);
    this.#life = leases[0]?.life ?? null;
  }

  /**
   * Stores the position of some of the leases, and takes parked events away that are done since.
   * @param standsBefore see RelayState; of no interest where nobody else holds lanes
   * @returns false when the leases are lost: nothing was written
   */
  async checkpoint(
    position: Position,
    standsBefore: string | null,
    leases: readonly Lease[],
    done: readonly string[],
  ): Promise<boolean> {
    const { schema } = this.#names;
    const whole = this.#parts[0] === 0;
    // A position that a crash of the server takes back costs repeats, and no write waits for the disk.
    const update = `
      update ${schema}.${whole ? "callback" : "lease"} as held
      set seen = $2::pg_snapshot, ahead = $3::pg_snapshot, ahead_id = $4::bigint, passed = null${whole ? "" : ", stands_before = $8::bigint"}
      from (select pg_catalog.set_config('synchronous_commit', 'off', true) as value) as setting
      where setting.value = 'off' and holder is not null and $5 = (select ${schema}.current_life())
        and ${whole ? "name = $1 and term = $6::bigint" : "callback = $1 and (part, term) in (select * from unnest($6::integer[], $7::bigint[]))"}`;
    const { seen, ahead, aheadId } = position;
    const values: unknown[] = [this.#callback, seen, ahead, aheadId, this.#life];
    if (whole) values.push(this.#terms[0]);
    else
      values.push(
        leases.map(({ part }) => part),
        leases.map(({ term }) => term),
        standsBefore,
      );
    const wanted = whole ? 1 : leases.length;
    if (done.length === 0) {
      const { rowCount } = await this.#pool.query({
        name: whole ? "pgevents_checkpoint" : "pgevents_checkpoint_lanes",
        ...PROMPT,
        text: update,
        values,
      });
      return rowCount === wanted;
    }
    const ids = done.map(ofParkedId);
    const { rows } = await this.#pool.query<{ held: string }>({
      text: `
        with held as (${update} returning 1)
        select count(*) as held,
          case when count(*) > 0 then ${schema}.forget_parked($1, $${values.length + 1}::bigint[], $${values.length + 2}::text[]) end
        from held`,
      values: [...values, ids.map(([id]) => id), ids.map(([, letterOf]) => letterOf)],
    });
    return Number(rows[0]?.held) === wanted;
  }

  /** Notes what is done beyond the position, of all the leases. @returns false when they are lost */
  async noteBeyond(passed: readonly string[]): Promise<boolean> {
    const { schema } = this.#names;
    const { rows } = await this.#pool.query<{ noted: boolean }>({
      text: `select ${schema}.note_beyond($1, $2::integer[], $3::bigint[], $4, $5::bigint[]) as noted`,
      values: [this.#callback, this.#parts, this.#terms, this.#life, passed],
    });
    return rows[0]?.noted === true;
  }

  /** Where the holders of the other lanes are. */
  async positionsOfOthers(): Promise<OthersAt[]> {
    const { rows } = await this.#pool.query<[string, string, string | null, string | null, string | null]>({
      name: "pgevents_others",
      ...PROMPT,
      text: `
        select lanes::text, seen::text, ahead::text, ahead_id::text, stands_before::text
        from ${this.#names.schema}.lease
        where callback = $1 and part <> all ($2::integer[])`,
      values: [this.#callback, this.#parts],
      rowMode: "array",
    });
    return rows.map(([lanes, seen, ahead, aheadId, standsBefore]) => ({
      lanes: Number(lanes),
      position: { seen, ahead, aheadId },
      standsBefore,
    }));
  }

  /**
   * Parks events, whole.
   * @returns the ids of those that are parked; the others' rows were dropped. Null: the leases are lost
   */
  async park(
    entries: readonly Entry[],
    failures: (entry: Entry) => { attempts: number; error: string | null },
  ): Promise<ReadonlySet<string> | null> {
    const failed = entries.map(failures);
    const { rows } = await this.#pool.query<{ stored: string[] | null }>({
      text: `
        select ${this.#names.schema}.park_events(
          $1, $2::integer[], $3::bigint[], $4::xid8[], $5::bigint[], $6::integer[], $7::text[])::text[] as stored`,
      values: [
        this.#callback,
        this.#parts,
        this.#terms,
        entries.map(({ event }) => event.transactionId),
        entries.map(({ id }) => id),
        failed.map(({ attempts }) => attempts),
        failed.map(({ error }) => error),
      ],
    });
    const stored = rows[0]?.stored ?? null;
    return stored === null ? null : new Set(stored);
  }

  /** Notes another failed attempt of a parked event. */
  async noteAttempts(parked: string, attempts: number, error: string): Promise<void> {
    await this.#pool.query({
      name: "pgevents_note_attempts",
      text: `update ${this.#names.schema}.parked set attempts = $4, error = $5 where callback = $1 and id = $2::bigint and letter_of = $3`,
      values: [this.#callback, ...ofParkedId(parked), attempts, error],
    });
  }

  /** The parked events of these lanes in id order, without their images. */
  async readParked(): Promise<ParkedEvent[]> {
    const lanes = joinLanes(this.#leases);
    const { schema } = this.#names;
    const { rows } = await readably(schema, ({ text }) =>
      this.#pool.query<ParkedRow>({
        text: `
        select id::text, xid::text, ${["schema_name", "table_name", "key", "old_key"].map(text).join(", ")},
          coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0), attempts,
          replay::text, letter_of, letter ->> 'error', (letter ->> 'attempts')::integer
        from ${schema}.parked
        where callback = $1 and taken and ($2::bigint >> ${schema}.lane_of(schema_name, table_name, key)) & 1 = 1
        order by parked.id`, // not the text of the same name
        values: [this.#callback, lanes],
        rowMode: "array",
      }),
    );
    return rows.map(([id, transactionId, tableSchema, table, key, oldKey, bytes, attempts, ...fields]) => {
      const names = { schema: bare(tableSchema), table: bare(table), key: key && bare(key) };
      const event = { ...NOTHING, id, transactionId, ...names };
      const resent = resentOf(fields);
      return {
        event: resent === null ? event : { ...event, oldKey: oldKey && bare(oldKey), resent },
        bytes,
        attempts,
      };
    });
  }

  /** Takes events of these lanes that lie ready to be delivered again; none when the leases are lost. */
  takeParked(limit: number): Promise<ReadEvent[]> {
    const lanes = joinLanes(this.#leases);
    return this.#reader.takeParked(this.#callback, { parts: this.#parts, terms: this.#terms, lanes }, limit);
  }

  /**
   * Lays events of a replay ready, for all lanes. @returns whether there is a replay
   * @param wanted the callback's filter
   * @param room how many may lie there
   */
  async feedReplay(wanted: WantedEvents, room: number): Promise<boolean> {
    const { rows } = await this.#pool.query<{ fed: boolean }>({
      name: "pgevents_feed_replay",
      text: `select ${this.#names.schema}.feed_replay($1, $2, $3) as fed where exists (
        select from ${this.#names.schema}.replay where callback = $1 and finished_at is null)`,
      values: [this.#callback, JSON.stringify(wanted), room],
    });
    return rows[0]?.fed === true;
  }

  /** The whole events of entries that were read without images; those whose rows were dropped are missing. */
  async readWhole(entries: readonly Entry[]): Promise<Map<string, Entry["event"]>> {
    const found = new Map<string, Entry["event"]>();
    for (const entry of entries) {
      const event = entry.parked
        ? await this.#reader.readParked(this.#callback, entry.id)
        : await this.#reader.readImages(entry.event);
      if (event !== undefined) found.set(entry.id, event);
    }
    return found;
  }

  /**
   * @param forward the callback that gets it now
   * @returns once the dead letter is durable: true; false when the event was dropped before
   */
  bury(letter: DeadLetter, forward: string | null): Promise<boolean> {
    return storeDeadLetter(this.#pool, this.#names, { callback: this.#callback, forward, ...letter });
  }
}
