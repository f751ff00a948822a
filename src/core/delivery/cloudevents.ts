/**
 * Change events as CloudEvents 1.0 over HTTP, NATS and Kafka, in the binary, structured and batched modes. Written by
 * joining strings: row images, keys and context pass through as the JSON text PostgreSQL wrote,
 * unparsed. Only names (schema, table, source) and the subject can hold what needs escaping, and each
 * is looked at once for that; ordinary ones are not copied.
 */
import {
  type ChangeEvent,
  type EventOperation,
  type EventOrigin,
  type Resent,
  stableEventId,
} from "../event.ts";
import { dataSchemaOf } from "../schema-id.ts";

export const STRUCTURED_TYPE = "application/cloudevents+json; charset=utf-8";
export const BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8";
export const DATA_TYPE = "application/json";

const EVENT_TYPES: Record<EventOperation, string> = {
  Insert: "dev.pgevents.row.inserted",
  Update: "dev.pgevents.row.updated",
  Delete: "dev.pgevents.row.deleted",
  Truncate: "dev.pgevents.row.truncated",
  SchemaChange: "dev.pgevents.schema.changed",
};

/** Binary mode: the attributes as header names and values, one after the other; the body is `eventData`. */
export function binaryHeaders(origin: EventOrigin, event: ChangeEvent): string[] {
  const subject = headerValue(subjectOf(event));
  const headers = [
    "content-type",
    DATA_TYPE,
    "ce-specversion",
    "1.0",
    "ce-id",
    stableEventId(origin, event),
    "ce-source",
    headerValue(origin.source),
    "ce-type",
    EVENT_TYPES[event.operation],
    "ce-subject",
    subject,
    "ce-time",
    event.time,
    "ce-partitionkey",
    subject,
    "ce-sequence",
    sequenceOf(event),
  ];
  const dataSchema = dataSchemaOf(origin, event);
  if (dataSchema !== null) headers.push("ce-dataschema", dataSchema);
  for (const [name, value] of origin.extensions ?? []) headers.push(`ce-${name}`, headerValue(value));
  if (event.resent !== undefined)
    for (const [name, value] of resentAttributes(event.resent))
      headers.push(`ce-${name}`, headerValue(String(value)));
  return headers;
}

/** Binary mode of the NATS binding: headers' names and values, one after the other; the payload is `eventData`. */
export function natsHeaders(origin: EventOrigin, event: ChangeEvent): string[] {
  const pairs = attributePairs(origin, event);
  for (let index = 0; index < pairs.length; index += 2) {
    pairs[index] = `ce-${pairs[index]}`;
    pairs[index + 1] = headerValue(pairs[index + 1] as string);
  }
  pairs.push("ce-datacontenttype", DATA_TYPE);
  pushTraceparent(pairs, event);
  return pairs;
}

/** Binary mode of the Kafka binding: headers' names and values as they are; the value is `eventData`. */
export function kafkaHeaders(origin: EventOrigin, event: ChangeEvent): string[] {
  const pairs = attributePairs(origin, event);
  for (let index = 0; index < pairs.length; index += 2) pairs[index] = `ce_${pairs[index]}`;
  pairs.push("content-type", DATA_TYPE);
  pushTraceparent(pairs, event);
  return pairs;
}

/** The attribute `partitionkey`: the same for all events of one row, and for no other's. */
export function partitionKeyOf(event: ChangeEvent): string {
  return subjectOf(event);
}

/** The W3C trace context that the writer was in (`capture.context.traceparent`); null when there is none that is well formed. */
export function traceparentOf({ context }: ChangeEvent): string | null {
  if (!context.includes('"traceparent"')) return null;
  const { traceparent } = JSON.parse(context) as { traceparent?: unknown };
  return typeof traceparent === "string" && TRACEPARENT.test(traceparent) ? traceparent : null;
}

function pushTraceparent(pairs: string[], event: ChangeEvent): void {
  const traceparent = traceparentOf(event);
  if (traceparent !== null) pairs.push("traceparent", traceparent);
}

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Names and values of the attributes, one after the other, not encoded. */
function attributePairs(origin: EventOrigin, event: ChangeEvent): string[] {
  const subject = subjectOf(event);
  const dataSchema = dataSchemaOf(origin, event);
  return [
    ...(dataSchema === null ? [] : ["dataschema", dataSchema]),
    "specversion",
    "1.0",
    "id",
    stableEventId(origin, event),
    "source",
    origin.source,
    "type",
    EVENT_TYPES[event.operation],
    "subject",
    subject,
    "time",
    event.time,
    "partitionkey",
    subject,
    "sequence",
    sequenceOf(event),
    ...(event.resent === undefined
      ? []
      : resentAttributes(event.resent).flatMap(([name, value]) => [name, String(value)])),
  ];
}

/** Structured mode: one event as a JSON object. */
export function structuredBody(origin: EventOrigin, event: ChangeEvent): string {
  const subject = jsonString(subjectOf(event));
  return `{"specversion":"1.0","id":"${stableEventId(origin, event)}","source":${jsonString(origin.source)},"type":"${EVENT_TYPES[event.operation]}","subject":${subject},"time":"${event.time}","partitionkey":${subject},"sequence":"${sequenceOf(event)}"${extensionFields(origin)}${resentFields(event)},"datacontenttype":"${DATA_TYPE}"${schemaField(origin, event)},"data":${eventData(event)}}`;
}

/** An id holds nothing that JSON escapes. */
function schemaField(origin: EventOrigin, event: ChangeEvent): string {
  const dataSchema = dataSchemaOf(origin, event);
  return dataSchema === null ? "" : `,"dataschema":"${dataSchema}"`;
}

function extensionFields({ extensions }: EventOrigin): string {
  if (extensions === undefined) return "";
  return extensions.map(([name, value]) => `,"${name}":${jsonString(value)}`).join("");
}

/** The attributes of an event that is delivered out of its turn, as fields of a JSON object after others. */
export function resentFields({ resent }: ChangeEvent): string {
  if (resent === undefined) return "";
  return resentAttributes(resent)
    .map(([name, value]) => `,"${name}":${JSON.stringify(value)}`)
    .join("");
}

function resentAttributes({ replay, letter }: Resent): [name: string, value: string | number | boolean][] {
  return [
    ...(replay === null ? [] : [["pgeventsreplay", true] as [string, boolean]]),
    ...(letter === null
      ? []
      : ([
          ["pgeventsdeadlettercallback", letter.callback],
          ["pgeventsdeadlettererror", letter.error],
          ["pgeventsdeadletterattempts", letter.attempts],
        ] as [string, string | number][])),
  ];
}

/**
 * For brokers that drop repeats by themselves: what tells a delivery that is wanted again from the one before.
 * A dead letter that is tried again is still the same delivery.
 */
export function deliveryId(origin: EventOrigin, event: ChangeEvent, callback: string): string {
  const { resent } = event;
  const id = `${stableEventId(origin, event)}/${callback}`;
  if (resent === undefined) return id;
  const letter = resent.letter === null ? "" : `/${resent.letter.callback}`;
  return id + letter + (resent.replay ? `/${resent.replay}` : "");
}

/** Batched mode: a JSON array of structured events, in the order given. */
export function batchBody(origin: EventOrigin, events: readonly ChangeEvent[]): string {
  let body = "[";
  let separator = "";
  for (const event of events) {
    body += separator + structuredBody(origin, event);
    separator = ",";
  }
  return `${body}]`;
}

/** The `data` of an event: what happened to which row, or to which table. */
export function eventData(event: ChangeEvent): string {
  const { operation, schema, table, key, oldKey, old, context, transactionId } = event;
  const before = oldKey === null ? "" : `,"oldKey":${oldKey}`;
  const images = `"key":${key ?? "null"}${before},"old":${old ?? "null"},"new":${event.new ?? "null"}`;
  const what = operation === "SchemaChange" ? `"change":${event.new ?? "null"}` : images;
  return `{"operation":"${operation}","relation":{"schema":${jsonString(schema)},"table":${jsonString(table)}},${what},"transaction":{"id":"${transactionId}"},"context":${context}}`;
}

/** `schema.table/key`: also the partition key, because a key alone is not unique among tables. */
function subjectOf({ schema, table, key }: ChangeEvent): string {
  return key === null ? `${schema}.${table}` : `${schema}.${table}/${key}`;
}

/**
 * The position, padded to one length: the CloudEvents extension `sequence` is compared as text. It
 * grows in commit order within a partition key; between keys it need not.
 */
function sequenceOf({ id }: ChangeEvent): string {
  return id.padStart(SEQUENCE_DIGITS, "0");
}

/** A bigint has 19 digits at most. */
const SEQUENCE_DIGITS = 20;

function jsonString(text: string): string {
  return PLAIN_IN_JSON.test(text) ? `"${text}"` : JSON.stringify(text);
}

const PLAIN_IN_JSON = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** Printable ASCII but for space, quote and percent stays; the rest is percent-encoded UTF-8 (CloudEvents HTTP binding 1.0, 3.1.3.2). */
function headerValue(text: string): string {
  return PLAIN_IN_HEADER.test(text)
    ? text
    : text.toWellFormed().replace(NOT_PLAIN_IN_HEADER, (run) => encodeURIComponent(run));
}

const PLAIN_IN_HEADER = /^[\x21\x23\x24\x26-\x7e]*$/;
/** encodeURIComponent leaves alone only what is plain here as well. */
const NOT_PLAIN_IN_HEADER = /[^\x21\x23\x24\x26-\x7e]+/g;
