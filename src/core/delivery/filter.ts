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
  const schemaChanges = filter?.schemaChanges ?? (module === undefined ? "Exclude" : "Include");
  const wants = (event: ChangeEvent): boolean => {
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
