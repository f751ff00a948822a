import type { CallbackSpec } from "../api/callback.ts";
import type { ChangeEvent } from "../event.ts";
import { type EventCondition, preparedExpression } from "./expression.ts";

export interface EventFilter {
  /** Whether the callback wants the event: by table, operation, and whether it is of a row or of the schema. */
  readonly wants: (event: ChangeEvent) => boolean;
  /**
   * What the expression says of a row that `wants` let through; null when there is none. It needs the row's
   * images. An expression that cannot say lets the event through, and tells `onError` why.
   */
  readonly wantsRow: EventCondition | null;
}

/**
 * The source's expressions must have been prepared (core/api/expressions.ts).
 * @param onError called with the message when an expression cannot say; it holds nothing of the row
 */
export function eventFilter(
  { filter, module }: Pick<CallbackSpec, "filter" | "module">,
  onError: (message: string) => void,
): EventFilter {
  const operations = filter?.operations === undefined ? null : new Set<string>(filter.operations);
  const tables =
    filter?.tables === undefined
      ? null
      : new Set(filter.tables.map(({ schema, name }) => JSON.stringify([schema, name])));
  const schemaChanges = schemaChangesOf({ filter, module });
  const wants = (event: ChangeEvent): boolean => {
    if (filter?.deadLetters === "Only") return false;
    if (event.operation === "SchemaChange") {
      if (schemaChanges === "Exclude") return false;
    } else {
      if (schemaChanges === "Only") return false;
      if (operations !== null && !operations.has(event.operation)) return false;
    }
    if (tables === null) return true;
    return (
      tables.has(JSON.stringify([event.schema, event.table])) ||
      tables.has(JSON.stringify([event.schema, "*"]))
    );
  };
  return { wants, wantsRow: filter?.expression === undefined ? null : rowFilter(filter.expression, onError) };
}

/** A filter without its expression, for `is_wanted` in sql/functions_replay.sql. */
export interface WantedEvents {
  /** Schema and name, or `*`; null: every table. */
  readonly tables: readonly (readonly [schema: string, name: string])[] | null;
  /** Their letters in the outbox; null: every one. */
  readonly operations: string | null;
  readonly schemaChanges: "Include" | "Exclude" | "Only";
}

export function wantedEvents({ filter, module }: Pick<CallbackSpec, "filter" | "module">): WantedEvents {
  return {
    tables:
      filter?.deadLetters === "Only"
        ? []
        : (filter?.tables?.map(({ schema, name }) => [schema, name] as const) ?? null),
    operations: filter?.operations?.map((operation) => operation[0]).join("") ?? null,
    schemaChanges: schemaChangesOf({ filter, module }),
  };
}

/** A module may have a function for them; nothing else expects them unless it says so. */
function schemaChangesOf({ filter, module }: Pick<CallbackSpec, "filter" | "module">) {
  return filter?.schemaChanges ?? (module === undefined ? "Exclude" : "Include");
}

/** A Truncate and a change of a table itself concern rows that the expression is not asked about. */
function rowFilter(expression: string, onError: (message: string) => void): EventCondition {
  const { holds, problemOf } = preparedExpression(expression);
  return (event) => {
    if (event.operation === "Truncate" || event.operation === "SchemaChange") return true;
    try {
      return holds(event);
    } catch (error) {
      onError(problemOf(error));
      return true;
    }
  };
}
