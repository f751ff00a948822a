/**
 * An event as one text, because reading one column costs half of what reading twelve does: how a query writes it,
 * and how it is read. Names are JSON because they can hold the separator; JSON texts cannot, nor are they ever empty,
 * which stands for null.
 */
import type { Crossing, ReadEvent } from "../core/delivery/entry.ts";
import { hasLane } from "../core/delivery/lanes.ts";
import { rowKey } from "../core/delivery/row-key.ts";
import type { ChangeEvent, EventOperation } from "../core/event.ts";
import { bare, holdsStandIns, isStandIn, type Wording } from "./unreadable.ts";

/** Bytes of an event's row images above which a read leaves them out. */
export const DEFERRED_BYTES = 16_384;
/** More tables and versions than that only cost time. */
const KEPT_ABOUTS = 10_000;
const SEPARATOR = "\u001f";

/** The text of a row of `read_fresh` and what is alike. */
export function eventText({ text, key, oldKey }: Wording): string {
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
    ${json("schema_name")}, ${json("table_name")}, coalesce(${text("about")}, ''),
    coalesce(place::text, ''), coalesce(packed_in, ''), lane, old_lane)`;
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
  place: string,
  packedIn: string,
  lane?: string,
  oldLane?: string,
];

/** The fields of an event's text, not yet read. `gaps`: some are stand-ins. */
export interface ToldEvent {
  readonly fields: Fields;
  readonly gaps: boolean;
}

export function told(text: string): ToldEvent {
  return { fields: text.split(SEPARATOR) as Fields, gaps: holdsStandIns(text) };
}

/** Which row of the outbox holds the images of an event, and of others; null: they are in its text, or left out. */
export function sharedRowOf({ fields: { 4: bytes, 16: row } }: ToldEvent): string | null {
  return row === "" || Number(bytes) > DEFERRED_BYTES ? null : row;
}

/** Of all events that share a row, by their places. */
export interface SharedImages {
  readonly old: readonly string[] | null;
  readonly new: readonly string[] | null;
}

export class EventTexts {
  readonly #tableNames = new Map<string, string>();
  readonly #abouts = new Map<string, About>();

  /** @param images of the row that it shares, larger than in there by its columns' names; none: in its text, or left out */
  read({ fields: told, gaps }: ToldEvent, lanes: number | null, images?: SharedImages): ReadEvent {
    const fields = gaps ? (told.map((field = "") => bare(field)) as Fields) : told;
    const [id, transactionId, at, operation, size, key, oldKey, ownOld, ownNew, role, application, context] =
      fields;
    const [, , , , , , , , , , , , schema, table, about, place, , lane, oldLane] = fields;
    const old = images === undefined ? ownOld : (images.old?.[Number(place) - 1] ?? "");
    const image = images === undefined ? ownNew : (images.new?.[Number(place) - 1] ?? "");
    const bytes = images === undefined ? Number(size) : Buffer.byteLength(old) + Buffer.byteLength(image);
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
    const deferred = images === undefined && bytes > DEFERRED_BYTES;
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
