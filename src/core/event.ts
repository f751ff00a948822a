/**
 * A change event as it lies in the outbox. Row images stay the JSON text that PostgreSQL wrote:
 * nothing between the socket and the request parses them, so numbers keep their digits and
 * timestamps their microseconds.
 */
import type { Operation } from "./api/capture.ts";

export type EventOperation = Operation | "SchemaChange";

export interface ChangeEvent {
  /** Position in the outbox, a decimal bigint; grows in commit order for each key. */
  readonly id: string;
  /** Transaction id (xid8, decimal). */
  readonly transactionId: string;
  /** Database clock at the write, RFC 3339 in UTC with microseconds. */
  readonly time: string;
  readonly operation: EventOperation;
  readonly schema: string;
  readonly table: string;
  /** Primary key after the change as a JSON array text, `[1]`; null for a table without one and for Truncate. */
  readonly key: string | null;
  /** Key before the change, only when an update changed the key. */
  readonly oldKey: string | null;
  /** Row before the change as JSON object text; null for Insert and Truncate. */
  readonly old: string | null;
  /** Row after the change as JSON object text; null for Delete and Truncate. For SchemaChange: what changed (sql/functions_schema.sql). */
  readonly new: string | null;
  /** Context of the transaction as JSON object text: session_user, application_name. */
  readonly context: string;
  /** Version of the columns of the table that the row is in (`aboutTable`); null for Truncate and SchemaChange. */
  readonly schemaVersion: string | null;
  /** Its key or its row now has no form in UTF-8: what stands here is ASCII with ? for the rest, and must not be delivered. */
  readonly unreadable?: boolean | undefined;
  /** Only when it is delivered again. */
  readonly resent?: Resent | undefined;
}

/** Why an event is delivered out of its turn. */
export interface Resent {
  /** 0: a dead letter that was told to be delivered again; else the number of the replay; null: neither. */
  readonly replay: number | null;
  /** It is a dead letter of another callback (`deadLetterCallback`). */
  readonly letter: DeadLetterOf | null;
}

export interface DeadLetterOf {
  /** Name of the callback that did not take it; with `/` before it, those that led to that one. */
  readonly callback: string;
  readonly error: string;
  readonly attempts: number;
}

/** What is the same for all events of one installation of capture. */
export interface EventOrigin {
  /** Unique id of the installation (uuid), made by the first build; part of every event id. */
  readonly installationId: string;
  /** CloudEvents `source`, e.g. `/pgevents/shop/orders-source` or `/pgevents/<database>/<name>`. */
  readonly source: string;
  /** What the ids of its JSON Schemas begin with (`schemaId`); without it events name none. */
  readonly schemas?: string | undefined;
  /** Names and values of further attributes. */
  readonly extensions?: readonly (readonly [string, string])[] | undefined;
}

/** The id a receiver can drop repeats by: the same for every attempt, callback and replay of one event. */
export function stableEventId(origin: EventOrigin, event: ChangeEvent): string {
  return `${origin.installationId}-${event.transactionId}-${event.id}`;
}
