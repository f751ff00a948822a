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
import { type Crossing, ofParkedId, type ReadEvent } from "../core/delivery/entry.ts";
import { hasLane } from "../core/delivery/lanes.ts";
import { rowKey } from "../core/delivery/row-key.ts";
import type { ChangeEvent, EventOperation, Resent } from "../core/event.ts";
import { bare, holdsStandIns, isStandIn, readably, type Wording } from "./unreadable.ts";

export const ROWS_PER_READ = 1000;
const DEFERRED_BYTES = 16_384;
/** More tables and versions than that only cost time. */
const KEPT_ABOUTS = 10_000;
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
  readonly #tableNames = new Map<string, string>();
  readonly #abouts = new Map<string, About>();

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
          select snapshot, case when id is null then null else ${packed(wording)} end
          from ${this.#schema}.read_fresh($1::pg_snapshot, $2::integer, $3::integer, $4::pg_snapshot, $5::bigint)`,
        values: [seen, ROWS_PER_READ, DEFERRED_BYTES, ahead, lanes],
        rowMode: "array",
      }),
    );
    const snapshot = ahead ?? (rows[0]?.[0] as string);
    const events = rows.flatMap(([, packed]) => (packed === null ? [] : this.#readEvent(packed, lanes)));
    return { snapshot, rows: events, complete: events.length < ROWS_PER_READ };
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
            select ${packed(wording)}
            from ${this.#schema}.read_slice($1::pg_snapshot, $2::pg_snapshot, $3::bigint, $4::bigint, $5::integer, $6::bigint)`,
          values: [seen, ahead, String(from), String(upTo), DEFERRED_BYTES, lanes],
          rowMode: "array",
        }),
      );
      if (rows.length > 0) {
        const events = rows.map(([packed]) => this.#readEvent(packed, lanes));
        return { rows: events, upTo: String(upTo), complete: upTo >= end };
      }
      from = upTo;
    }
    return { rows: [], upTo: String(end), complete: true };
  }

  /** The row images that a read left out because of their size; undefined: the row was dropped since. */
  async readImages(event: ChangeEvent): Promise<ChangeEvent | undefined> {
    const { rows } = await readably(this.#schema, ({ text }) =>
      this.#pool.query<[string | null, string | null]>({
        text: `select ${text("old")}, ${text("new")} from ${this.#schema}.outbox where xid = $1::xid8 and id = $2::bigint`,
        values: [event.transactionId, event.id],
        rowMode: "array",
      }),
    );
    if (rows[0] === undefined) return undefined;
    const [old, image] = rows[0];
    const read = { ...event, old: old && bare(old), new: image && bare(image) };
    return image !== null && isStandIn(image) ? { ...read, unreadable: true } : read;
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
    return rows.map(([packed, ...fields]) => {
      const read = this.#readEvent(packed, null);
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

  #readEvent(packed: string, lanes: number | null): ReadEvent {
    const told = packed.split(SEPARATOR) as Fields;
    const gaps = holdsStandIns(packed);
    const fields = gaps ? (told.map((field = "") => bare(field)) as Fields) : told;
    const [id, transactionId, at, operation, size, key, oldKey, old, image, role, application, context] =
      fields;
    const [, , , , , , , , , , , , schema, table, about, lane, oldLane] = fields;
    const bytes = Number(size);
    const { columns, version } = about === "" ? NOTHING_ABOUT : this.#aboutOf(about);
    // From the images, unless these were left out or the lanes were wanted.
    const fromImages = key === "" && operation !== "S";
    const keyNow = fromImages ? rowKey(columns, image === "" ? old : image) : key;
    const keyBefore = fromImages && operation === "U" ? rowKey(columns, old) : oldKey;
    const event: ChangeEvent = {
      id,
      transactionId,
      time: utc(at),
      operation: EVENT_OPERATIONS[operation] as EventOperation,
      schema: this.#nameOf(schema),
      table: this.#nameOf(table),
      key: keyNow === "" ? null : keyNow,
      oldKey: keyBefore === "" || keyBefore === keyNow ? null : keyBefore,
      old: old === "" ? null : old,
      new: image === "" ? null : image,
      context: role === "" ? context || "{}" : contextText(role, application, context),
      schemaVersion: version,
    };
    const deferred = bytes > DEFERRED_BYTES;
    const read: ReadEvent = { event: gaps ? withStandIns(event, told) : event, bytes, deferred };
    return lanes === null ? read : { ...read, ...crossingOf(operation, Number(lane), oldLane ?? "", lanes) };
  }

  /** What goes with each event of a table (`aboutTable`), read once. */
  #aboutOf(text: string): About {
    let about = this.#abouts.get(text);
    if (about === undefined) {
      if (this.#abouts.size >= KEPT_ABOUTS) this.#abouts.clear();
      const { key = [], version } = JSON.parse(text) as { key?: string[]; version: string };
      about = { columns: key.map((column) => JSON.stringify(column)), version };
      this.#abouts.set(text, about);
    }
    return about;
  }

  /** A name from its JSON; one string for all events of a table. */
  #nameOf(json: string): string {
    let name = this.#tableNames.get(json);
    if (name === undefined) {
      name = JSON.parse(json) as string;
      this.#tableNames.set(json, name);
    }
    return name;
  }
}

/**
 * A row as one text: reading one column costs half of what reading twelve does. Names are JSON because
 * they can hold the separator; JSON texts cannot, nor are they ever empty, which stands for null.
 */
const SEPARATOR = "\u001f";

function packed({ text, key, oldKey }: Wording): string {
  const json = (name: string) => text(`pg_catalog.to_json(${name})::text`);
  const fields = [
    text(key),
    text(oldKey),
    text("old"),
    text("new"),
    json("role"),
    json("application"),
    text("context"),
  ];
  return `pg_catalog.concat_ws(pg_catalog.chr(31), id, xid, at, operation, bytes,
    ${fields.map((field) => `coalesce(${field}, '')`).join(", ")},
    ${json("schema_name")}, ${json("table_name")}, coalesce(${text("about")}, ''), lane, old_lane)`;
}

type Fields = [
  id: string,
  xid: string,
  at: string,
  operation: string,
  bytes: string,
  key: string,
  oldKey: string,
  old: string,
  new: string,
  role: string,
  application: string,
  context: string,
  schema: string,
  table: string,
  about: string,
  lane?: string,
  oldLane?: string,
];

/** Rows of the tables `parked` or `dead_letter`, in id order. @param deferred images of more bytes are left out */
function storedEvents(wording: Wording, query: string, deferred?: number): string {
  const bytes = "coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0)";
  const image = (name: string) =>
    deferred === undefined ? name : `case when ${bytes} <= ${deferred} then ${name} end as ${name}`;
  return `
    select ${packed(wording)}, replay::text, letter_of, ${wording.text("letter ->> 'error'")}, (letter ->> 'attempts')::integer
    from (
      select id, xid, to_json(at at time zone 'UTC') as at, operation, ${deferred === undefined ? "0" : bytes} as bytes,
        key, old_key, ${image("old")}, ${image("new")}, null::text as role, null::text as application, context,
        schema_name, table_name, json_build_object('version', schema_version)::text as about,
        null::integer as lane, null::integer as old_lane, replay, letter_of, letter
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

interface About {
  /** Key columns as JSON strings. */
  readonly columns: readonly string[];
  /** Version of the table's columns. */
  readonly version: string | null;
}

const NOTHING_ABOUT: About = { columns: [], version: null };

/**
 * An event with stand-ins. What it was before, and its circumstances, may be told with gaps; what it is now may not.
 * @param told the fields with the marks of stand-ins
 */
function withStandIns(event: ChangeEvent, told: Fields): ChangeEvent {
  const [, , , , , key, oldKey, , image, , , , schema, table] = told;
  return [key, oldKey, image, schema, table].some(isStandIn) ? { ...event, unreadable: true } : event;
}

/** @param role and application as JSON strings @param more JSON object text, or empty */
function contextText(role: string, application: string, more: string): string {
  const rest = more === "" ? "}" : `, ${more.slice(1)}`;
  return `{"session_user" : ${role}, "application_name" : ${application || "null"}${rest}`;
}

/** Which lanes an event concerns, and whether some of them are others'. */
function crossingOf(
  operation: string,
  lane: number,
  oldLaneText: string,
  lanes: number,
): { lane: number; oldLane: number | null; crossing?: Crossing } {
  const ours = hasLane(lanes, lane);
  const oldLane = oldLaneText === "" ? null : Number(oldLaneText);
  const alone =
    operation !== "T" && operation !== "S" && (oldLane === null || hasLane(lanes, oldLane) === ours);
  return alone ? { lane, oldLane } : { lane, oldLane, crossing: ours ? "ours" : "theirs" };
}

/** By their letters in the outbox. */
export const EVENT_OPERATIONS: Readonly<Record<string, EventOperation>> = {
  I: "Insert",
  U: "Update",
  D: "Delete",
  T: "Truncate",
  S: "SchemaChange",
};

/** `to_json` of a timestamp is ISO 8601 whatever the session's DateStyle. */
function utc(at: string): string {
  return `${at.slice(1, -1)}Z`;
}
