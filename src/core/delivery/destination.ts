/**
 * Subjects and topics made of a template and an event. Names can hold anything in PostgreSQL and little in a
 * broker; what is escaped keeps different names apart, and can be told back.
 */
import type { ChangeEvent } from "../event.ts";

const PLACEHOLDER = /\{(schema|table|operation)\}/g;
/** Destinations that are remembered for each template. */
const MAX_REMEMBERED = 10_000;

/** For subjects of NATS: all but letters, digits, `-` and `_` as %XX. */
export function natsDestination(template: string): (event: ChangeEvent) => string {
  return destination(template, (name) => escapeBytes(name, /[^A-Za-z0-9_-]+/g, "%"));
}

/** For topics of Kafka, where % is not allowed: all but letters, digits and `_` as -XX. */
export function kafkaDestination(template: string): (event: ChangeEvent) => string {
  return destination(template, (name) => escapeBytes(name, /[^A-Za-z0-9_]+/g, "-"));
}

function destination(template: string, safe: (name: string) => string): (event: ChangeEvent) => string {
  if (template.search(PLACEHOLDER) === -1) return () => template;
  const known = new Map<string, string>();
  return ({ schema, table, operation }) => {
    const id = `${operation}\0${schema}\0${table}`;
    let made = known.get(id);
    if (made === undefined) {
      const values = { schema: safe(schema), table: safe(table), operation: operation.toLowerCase() };
      made = template.replace(PLACEHOLDER, (_, name: keyof typeof values) => values[name]);
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(id, made);
    }
    return made;
  };
}

function escapeBytes(name: string, unsafe: RegExp, mark: string): string {
  return name.replace(unsafe, (run) =>
    [...new TextEncoder().encode(run)]
      .map((byte) => mark + byte.toString(16).toUpperCase().padStart(2, "0"))
      .join(""),
  );
}
