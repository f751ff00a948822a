/**
 * The event triggers that follow changes of tables in the transaction that makes them. They belong to
 * the database as a whole, and only a superuser can make them.
 */
import type { CaptureNames } from "./names.ts";
import { ident, literal } from "./quote.ts";

interface EventTrigger {
  readonly name: string;
  readonly event: "ddl_command_end" | "sql_drop";
  /** Function in the capture schema. */
  readonly procedure: string;
  readonly tags: readonly string[];
}

const EVENT_TRIGGERS: readonly EventTrigger[] = [
  {
    name: "ddl_command_end",
    event: "ddl_command_end",
    procedure: "ddl_ended",
    tags: ["ALTER TABLE", "CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE SCHEMA"],
  },
  {
    name: "sql_drop",
    event: "sql_drop",
    procedure: "objects_dropped",
    tags: ["ALTER TABLE", "DROP TABLE", "DROP SCHEMA", "DROP OWNED", "DROP EXTENSION"],
  },
  {
    // What is around tables and decides how, and whether, they are captured.
    name: "surroundings",
    event: "ddl_command_end",
    procedure: "surroundings_changed",
    tags: ["CREATE TRIGGER", "ALTER TABLE", "CREATE CAST", "ALTER TYPE", "ALTER FUNCTION", "ALTER ROUTINE"],
  },
];

/** Each of them is there, and as a build makes it. */
export function hasAllEventTriggers(found: readonly { readonly current: boolean }[]): boolean {
  return found.filter(({ current }) => current).length === EVENT_TRIGGERS.length;
}

/** Rows (procedure, name, event, tags) for `values`. */
export function eventTriggerValues(names: CaptureNames): string {
  return EVENT_TRIGGERS.map(({ name, event, procedure, tags }) => {
    const texts = [procedure, eventTriggerName(name, names), event].map(literal).join(", ");
    return `(${texts}, array[${tags.map(literal).join(", ")}])`;
  }).join(", ");
}

/** Statements that make all of them; those that are there must have been dropped before. */
export function createEventTriggers(names: CaptureNames): string[] {
  return EVENT_TRIGGERS.map(
    ({ name, event, procedure, tags }) =>
      `create event trigger ${ident(eventTriggerName(name, names))} on ${event} when tag in (${tags.map(literal).join(", ")}) execute function ${names.schema}.${procedure}()`,
  );
}

export function dropEventTrigger(name: string): string {
  return `drop event trigger if exists ${ident(name)}`;
}

function eventTriggerName(name: string, names: CaptureNames): string {
  return `pgevents_${name}${names.mark}`;
}
