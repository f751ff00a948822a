/**
 * Reads the outbox without gaps. What is new since a position is found by transaction, not by id:
 * rows of transactions that were running at the position's snapshot or began after it. A window that
 * holds more than one read returns is fixed by its snapshot and read on in slices of ids.
 *
 * The queries are functions (sql/functions_reading.sql). Each read is one statement, so that no snapshot
 * is held while callbacks are slow. Row images over DEFERRED_BYTES are left out and read by `readImages` when their turn has come: that bounds the
 * memory of a read to ROWS_PER_READ × DEFERRED_BYTES = 16 MiB.
 */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import type { ReadEvent } from "../core/delivery/relay-state.ts";
import type { ChangeEvent, EventOperation } from "../core/event.ts";

export const ROWS_PER_READ = 1000;
const DEFERRED_BYTES = 16_384;
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
  readonly #freshQuery: string;
  readonly #sliceQuery: string;
  readonly #imagesQuery: string;
  readonly #names: CaptureNames;

  constructor(pool: Pool, names: CaptureNames) {
    this.#pool = pool;
    this.#names = names;
    this.#freshQuery = `
      select * from ${names.schema}.read_fresh($1::pg_snapshot, $2::integer, $3::integer)`;
    this.#sliceQuery = `
      select * from ${names.schema}.read_slice($1::pg_snapshot, $2::pg_snapshot, $3::bigint, $4::bigint, $5::integer)`;
    this.#imagesQuery = `
      select old, new from ${names.schema}.outbox where xid = $1::xid8 and id = $2::bigint`;
  }

  /** What became visible since `seen`; at most ROWS_PER_READ events, lowest ids first. */
  async readFresh(seen: string): Promise<FreshRead> {
    const { rows } = await this.#pool.query<Row>({
      name: "pgevents_fresh",
      text: this.#freshQuery,
      values: [seen, ROWS_PER_READ, DEFERRED_BYTES],
      rowMode: "array",
    });
    const snapshot = rows[0]?.[0] as string;
    const events = rows[0]?.[1] === null ? [] : rows.map(readEvent);
    return { snapshot, rows: events, complete: events.length < ROWS_PER_READ };
  }

  /**
   * The next events of the window (seen, ahead] with ids above `after`.
   * @param last no id of the window is above it
   */
  async readSlice(seen: string, ahead: string, after: string, last: string): Promise<SliceRead> {
    const end = BigInt(last);
    let from = BigInt(after);
    for (
      let width = BigInt(ROWS_PER_READ);
      from < end;
      width = width * 4n > MAX_SLICE ? MAX_SLICE : width * 4n
    ) {
      const upTo = from + width < end ? from + width : end;
      const { rows } = await this.#pool.query<Row>({
        name: "pgevents_slice",
        text: this.#sliceQuery,
        values: [seen, ahead, String(from), String(upTo), DEFERRED_BYTES],
        rowMode: "array",
      });
      if (rows.length > 0) return { rows: rows.map(readEvent), upTo: String(upTo), complete: upTo >= end };
      from = upTo;
    }
    return { rows: [], upTo: String(end), complete: true };
  }

  /** The row images that a read left out because of their size. */
  async readImages(event: ChangeEvent): Promise<ChangeEvent> {
    const { rows } = await this.#pool.query<[string | null, string | null]>({
      text: this.#imagesQuery,
      values: [event.transactionId, event.id],
      rowMode: "array",
    });
    const images = rows[0];
    if (images === undefined) throw new Error(`outbox row ${event.id} is gone`);
    return { ...event, old: images[0], new: images[1] };
  }

  /**
   * Prepares a large window for slices: an id above all of its ids, and the block ranges of the id
   * index brought up to date, without which each slice would scan the segment.
   */
  async prepareSlices(): Promise<string> {
    const { rows } = await this.#pool.query<[string]>({
      text: `select last_value::text from ${this.#names.schema}.outbox_id`,
      rowMode: "array",
    });
    await this.#pool.query({
      text: `select brin_summarize_new_values(indexrelid)
        from pg_catalog.pg_index
        join pg_catalog.pg_inherits on inhrelid = indrelid
        join pg_catalog.pg_class on pg_class.oid = indexrelid
        where inhparent = $1::regclass
          and relam = (select oid from pg_catalog.pg_am where amname = 'brin')`,
      values: [`${this.#names.schema}.outbox`],
    });
    return rows[0]?.[0] as string;
  }
}

type Row = [
  snapshot: string | null,
  id: string,
  xid: string,
  at: string,
  operation: string,
  schema: string,
  table: string,
  key: string | null,
  oldKey: string | null,
  old: string | null,
  new: string | null,
  context: string,
  bytes: number,
];

const OPERATION: Record<string, EventOperation> = {
  I: "Insert",
  U: "Update",
  D: "Delete",
  T: "Truncate",
  S: "SchemaChange",
};

function readEvent(row: Row): ReadEvent {
  const [, id, transactionId, at, operation, schema, table, key, oldKey, old, newImage, context, bytes] = row;
  const event: ChangeEvent = {
    id,
    transactionId,
    time: utc(at),
    operation: OPERATION[operation] as EventOperation,
    schema,
    table,
    key,
    oldKey,
    old,
    new: newImage,
    context,
  };
  return { event, bytes, deferred: bytes > DEFERRED_BYTES };
}

/** `to_json` of a timestamp is ISO 8601 whatever the session's DateStyle; the driver parses json to a string. */
function utc(at: string): string {
  return `${at.startsWith('"') ? at.slice(1, -1) : at}Z`;
}
