/**
 * Reads the outbox without gaps. What is new since a position is found by transaction, not by id:
 * rows of transactions that were running at the position's snapshot or began after it. A window that
 * holds more than one read returns is fixed by its snapshot and read on in slices of ids.
 *
 * The queries are functions (sql/functions_reading.sql). Each read is one statement, so that no snapshot
 * is held while callbacks are slow. Row images over DEFERRED_BYTES are left out and read by `readImages` when
 * their turn has come: that bounds the memory of a read to ROWS_PER_READ × DEFERRED_BYTES = 16 MiB.
 */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import { ofParkedId, type ReadEvent } from "../core/delivery/entry.ts";
import { unpackImages } from "../core/delivery/packed-images.ts";
import type { ChangeEvent, Resent } from "../core/event.ts";
import { DEFERRED_BYTES, EventTexts, eventText, type SharedImages, sharedRowOf, told } from "./event-text.ts";
import { bare, isStandIn, readably, type Wording } from "./unreadable.ts";

export const ROWS_PER_READ = 1000;
/** Ids a slice spans at most when the ids are sparse. */
const MAX_SLICE = 1_000_000n;

export interface FreshRead {
  /** The snapshot of this read: the end of the window. */
  readonly snapshot: string;
  readonly rows: ReadEvent[];
  /** False: the window holds more; go on with `readSlice`. */
  readonly complete: boolean;
}

export interface SliceRead {
  readonly rows: ReadEvent[];
  /** Up to where ids were read. */
  readonly upTo: string;
  readonly complete: boolean;
}

export class OutboxReader {
  readonly #pool: Pool;
  readonly #schema: string;
  readonly #texts = new EventTexts();

  constructor(pool: Pool, names: CaptureNames) {
    this.#pool = pool;
    this.#schema = names.schema;
  }

  /**
   * What became visible since `seen`; at most ROWS_PER_READ events, lowest ids first.
   * @param ahead only what that snapshot sees; null: everything up to now
   * @param lanes only events that concern these; null: all
   */
  async readFresh(
    seen: string,
    ahead: string | null = null,
    lanes: number | null = null,
  ): Promise<FreshRead> {
    const { rows } = await readably(this.#schema, (wording) =>
      this.#pool.query<[string, string | null]>({
        name: wording.name("pgevents_fresh"),
        text: `
          select snapshot, case when id is null then null else ${eventText(wording)} end
          from ${this.#schema}.read_fresh($1::pg_snapshot, $2::integer, $3::integer, $4::pg_snapshot, $5::bigint)`,
        values: [seen, ROWS_PER_READ, DEFERRED_BYTES, ahead, lanes],
        rowMode: "array",
      }),
    );
    const snapshot = ahead ?? (rows[0]?.[0] as string);
    const texts = rows.flatMap(([, text]) => (text === null ? [] : [text]));
    const events = await this.#readEvents(texts, lanes);
    if (events === null) return this.readFresh(seen, ahead, lanes);
    return { snapshot, rows: events, complete: texts.length < ROWS_PER_READ };
  }

  /** The end of the window that begins at `seen`, for all holders of a callback's lanes; null: nothing is new. */
  async agreeWindow(callback: string, seen: string): Promise<string | null> {
    const { rows } = await this.#pool.query<[string | null]>({
      name: "pgevents_agree",
      text: `select ${this.#schema}.agree_window($1, $2::pg_snapshot)`,
      values: [callback, seen],
      rowMode: "array",
    });
    return rows[0]?.[0] ?? null;
  }

  /**
   * The next events of the window (seen, ahead] with ids above `after`.
   * @param last no id of the window is above it
   */
  async readSlice(
    seen: string,
    ahead: string,
    after: string,
    last: string,
    lanes: number | null = null,
  ): Promise<SliceRead> {
    const end = BigInt(last);
    let from = BigInt(after);
    for (
      let width = BigInt(ROWS_PER_READ);
      from < end;
      width = width * 4n > MAX_SLICE ? MAX_SLICE : width * 4n
    ) {
      const upTo = from + width < end ? from + width : end;
      const { rows } = await readably(this.#schema, (wording) =>
        this.#pool.query<[string]>({
          name: wording.name("pgevents_slice"),
          text: `
            select ${eventText(wording)}
            from ${this.#schema}.read_slice($1::pg_snapshot, $2::pg_snapshot, $3::bigint, $4::bigint, $5::integer, $6::bigint)`,
          values: [seen, ahead, String(from), String(upTo), DEFERRED_BYTES, lanes],
          rowMode: "array",
        }),
      );
      if (rows.length > 0) {
        const events = await this.#readEvents(
          rows.map(([text]) => text),
          lanes,
        );
        if (events === null) return this.readSlice(seen, ahead, String(from), last, lanes);
        return { rows: events, upTo: String(upTo), complete: upTo >= end };
      }
      from = upTo;
    }
    return { rows: [], upTo: String(end), complete: true };
  }

  /** The row images that a read left out because of their size; undefined: the row was dropped since. */
  async readImages(event: ChangeEvent): Promise<ChangeEvent | undefined> {
    const image = (name: string) => `coalesce(${name}, ${this.#schema}.image_at(${name}_columns, place))`;
    const { rows } = await readably(this.#schema, ({ text }) =>
      this.#pool.query<[string | null, string | null]>({
        text: `
          select ${text(image("old"))}, ${text(image("new"))} from ${this.#schema}.logged(false)
          where xid = $1::xid8 and row_id >= $2::bigint and id = $2::bigint`,
        values: [event.transactionId, event.id],
        rowMode: "array",
      }),
    );
    if (rows[0] === undefined) return undefined;
    const [old, now] = rows[0];
    const read = { ...event, old: old && bare(old), new: now && bare(now) };
    return now !== null && isStandIn(now) ? { ...read, unreadable: true } : read;
  }

  /** A parked event, whole; undefined when it is not parked any more. @param parked see `parkedId` */
  async readParked(callback: string, parked: string): Promise<ChangeEvent | undefined> {
    const rows = await this.#readStored({
      text: (wording) =>
        storedEvents(
          wording,
          `select * from ${this.#schema}.parked where callback = $1 and id = $2::bigint and letter_of = $3`,
        ),
      values: [callback, ...ofParkedId(parked)],
    });
    return rows[0]?.event;
  }

  /** Dead letters, whole, in id order. */
  async readDeadLetters(callback: string, ids: readonly string[]): Promise<ChangeEvent[]> {
    const rows = await this.#readStored({
      text: (wording) =>
        storedEvents(
          wording,
          `select * from ${this.#schema}.dead_letter where callback = $1 and id = any ($2::bigint[])`,
        ),
      values: [callback, ids],
    });
    return rows.map(({ event }) => event);
  }

  /**
   * Takes events that lie ready to be delivered again, in id order; the images of large ones are left out.
   * None when the leases are lost.
   */
  async takeParked(
    callback: string,
    leases: { readonly parts: readonly number[]; readonly terms: readonly string[]; readonly lanes: number },
    limit: number,
  ): Promise<ReadEvent[]> {
    return this.#readStored({
      name: "pgevents_take_parked",
      text: (wording) =>
        storedEvents(
          wording,
          `select * from ${this.#schema}.take_parked($1, $2::integer[], $3::bigint[], $4::bigint, $5)`,
          DEFERRED_BYTES,
        ),
      values: [callback, leases.parts, leases.terms, leases.lanes, limit],
    });
  }

  async #readStored(query: {
    name?: string;
    text: (wording: Wording) => string;
    values: unknown[];
  }): Promise<ReadEvent[]> {
    const { rows } = await readably(this.#schema, (wording) =>
      this.#pool.query<[string, ...ResentFields]>({
        ...(query.name === undefined ? {} : { name: wording.name(query.name) }),
        text: query.text(wording),
        values: query.values,
        rowMode: "array",
      }),
    );
    return rows.map(([text, ...fields]) => {
      const read = this.#texts.read(told(text), null);
      const resent = resentOf(fields);
      return resent === null ? read : { ...read, event: { ...read.event, resent } };
    });
  }

  /**
   * Prepares a large window for slices: an id above all of its ids, and the block ranges of the id
   * index brought up to date, without which each slice would scan the segment.
   */
  async prepareSlices(): Promise<string> {
    const { rows } = await this.#pool.query<[string]>({
      text: `select last_value::text from ${this.#schema}.outbox_id`,
      rowMode: "array",
    });
    await this.#pool.query(`select ${this.#schema}.prepare_slices()`);
    return rows[0]?.[0] as string;
  }

  /** Null when rows that hold the images are not where they were any more: what is there has to be read again. */
  async #readEvents(texts: readonly string[], lanes: number | null): Promise<ReadEvent[] | null> {
    const events = texts.map(told);
    const shared = new Set(events.flatMap((event) => sharedRowOf(event) ?? []));
    const rows = shared.size === 0 ? null : await this.#readShared([...shared]);
    if (rows !== null && rows.size < shared.size) return null;
    return events.map((event) => this.#texts.read(event, lanes, rows?.get(sharedRowOf(event) ?? "")));
  }

  /** The images of rows that several events share. @param shared see `sharedRowOf` */
  async #readShared(shared: readonly string[]): Promise<Map<string, SharedImages>> {
    const { rows } = await this.#pool.query<[string, string | null, string | null]>({
      name: "pgevents_shared",
      text: `
        select concat(id, ctid), array_to_string(old_columns, ','), array_to_string(new_columns, ',') from ${this.#schema}.outbox
        where ctid = any ($1::tid[]) and id = any ($2::bigint[])`,
      values: [
        shared.map((row) => row.slice(row.indexOf("("))),
        shared.map((row) => row.slice(0, row.indexOf("("))),
      ],
      rowMode: "array",
    });
    const images = (columns: string | null) => (columns === null ? null : unpackImages(columns));
    return new Map(rows.map(([row, old, image]) => [row, { old: images(old), new: images(image) }]));
  }
}

/** Rows of the tables `parked` or `dead_letter`, in id order. @param deferred images of more bytes are left out */
function storedEvents(wording: Wording, query: string, deferred?: number): string {
  const bytes = "coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0)";
  const image = (name: string) =>
    deferred === undefined ? name : `case when ${bytes} <= ${deferred} then ${name} end as ${name}`;
  return `
    select ${eventText(wording)}, replay::text, letter_of, ${wording.text("letter ->> 'error'")}, (letter ->> 'attempts')::integer
    from (
      select id, xid, to_json(at at time zone 'UTC') as at, operation, ${deferred === undefined ? "0" : bytes} as bytes,
        key, old_key, ${image("old")}, ${image("new")}, null::text as role, null::text as application, context,
        schema_name, table_name, json_build_object('version', schema_version)::text as about,
        null::integer as place, null::text as packed_in, null::integer as lane, null::integer as old_lane, replay, letter_of, letter
      from (${query}) as stored
    ) as one
    order by one.id, letter_of`;
}

/** Columns replay, letter_of and what `letter` holds. */
export type ResentFields = [
  replay: string | null,
  letterOf: string,
  letterError: string | null,
  letterAttempts: number | null,
];

export function resentOf([replay, letterOf, error, attempts]: ResentFields): Resent | null {
  const letter = letterOf === "" ? null : { callback: letterOf, error: error ?? "", attempts: attempts ?? 0 };
  if (replay === null && letter === null) return null;
  return { replay: replay === null ? null : Number(replay), letter };
}
