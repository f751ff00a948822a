/**
 * Change events as CloudEvents 1.0 over HTTP, in the binary, structured and batched modes. Written by
 * joining strings: row images pass through as the text PostgreSQL wrote, unparsed.
 */
import type { Operation } from "../api/capture.ts";
import { type ChangeEvent, type EventOrigin, stableEventId } from "../event.ts";

export const STRUCTURED_TYPE = "application/cloudevents+json; charset=utf-8";
export const BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8";
export const DATA_TYPE = "application/json";

const EVENT_TYPES: Record<Operation, string> = {
  Insert: "dev.pgevents.row.inserted",
  Update: "dev.pgevents.row.updated",
  Delete: "dev.pgevents.row.deleted",
  Truncate: "dev.pgevents.table.truncated",
};

/** The context attributes, in the order they are written. */
interface Attributes {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject: string;
  readonly time: string;
  readonly partitionkey: string;
  readonly sequence: string;
}

/** Binary mode: the attributes as header names and values; the body is `eventData`. */
export function binaryHeaders(origin: EventOrigin, event: ChangeEvent): string[] {
  const { id, source, type, subject, time, partitionkey, sequence } = attributesOf(origin, event);
  return [
    "content-type", DATA_TYPE,
    "ce-specversion", "1.0",
    "ce-id", id,
    "ce-source", headerValue(source),
    "ce-type", type,
    "ce-subject", headerValue(subject),
    "ce-time", time,
    "ce-partitionkey", headerValue(partitionkey),
    "ce-sequence", sequence,
  ];
}

/** Structured mode: one event as a JSON object. */
export function structuredBody(origin: EventOrigin, event: ChangeEvent): string {
  const { id, source, type, subject, time, partitionkey, sequence } = attributesOf(origin, event);
  return `{"specversion":"1.0","id":"${id}","source":${JSON.stringify(source)},"type":"${type}","subject":${JSON.stringify(subject)},"time":"${time}","partitionkey":${JSON.stringify(partitionkey)},"sequence":"${sequence}","datacontenttype":"${DATA_TYPE}","data":${eventData(event)}}`;
}

/** Batched mode: a JSON array of structured events. */
export function batchBody(origin: EventOrigin, events: readonly ChangeEvent[]): string {
  return `[${events.map((event) => structuredBody(origin, event)).join(",")}]`;
}

/** The `data` of an event: what happened to which row. */
export function eventData(event: ChangeEvent): string {
  const { operation, schema, table, key, oldKey, old, context, transactionId } = event;
  const before = oldKey === null ? "" : `,"oldKey":${oldKey}`;
  return `{"operation":"${operation}","relation":{"schema":${JSON.stringify(schema)},"table":${JSON.stringify(table)}},"key":${key ?? "null"}${before},"old":${old ?? "null"},"new":${event.new ?? "null"},"transaction":{"id":"${transactionId}"},"context":${context}}`;
}

function attributesOf(origin: EventOrigin, event: ChangeEvent): Attributes {
  const table = `${event.schema}.${event.table}`;
  const subject = event.key === null ? table : `${table}/${event.key}`;
  return {
    id: stableEventId(origin, event),
    source: origin.source,
    type: EVENT_TYPES[event.operation],
    subject,
    time: event.time,
    partitionkey: subject,
    // Compared as text, so all of one length (extension "sequence").
    sequence: event.id.padStart(20, "0"),
  };
}

/** Header values hold printable ASCII without space, quote and percent; the rest is percent-encoded UTF-8 (CloudEvents HTTP binding 3.1.3.2). */
function headerValue(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(TO_ENCODE, (character) => {
    const bytes = Buffer.from(character.isWellFormed() ? character : "\uFFFD");
    return [...bytes].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  });
}

const PLAIN = /^[\x21\x23\x24\x26-\x7e]*$/;
const TO_ENCODE = /[^\x21\x23\x24\x26-\x7e]/gu;
