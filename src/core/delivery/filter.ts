import type { CallbackSpec } from "../api/callback.ts";
import type { ChangeEvent } from "../event.ts";

/** Whether a callback wants an event, by table, operation, and whether it is of a row or of the schema. */
export function eventFilter({
  filter,
  module,
}: Pick<CallbackSpec, "filter" | "module">): (event: ChangeEvent) => boolean {
  const operations = filter?.operations === undefined ? null : new Set<string>(filter.operations);
  const tables =
    filter?.tables === undefined
      ? null
      : new Set(filter.tables.map(({ schema, name }) => JSON.stringify([schema, name])));
  const schemaChanges = filter?.schemaChanges ?? (module === undefined ? "Exclude" : "Include");
  return (event) => {
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
}
