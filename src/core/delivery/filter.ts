import type { CallbackSpec } from "../api/callback.ts";
import type { ChangeEvent } from "../event.ts";

/** Whether a callback wants an event, by table and operation. */
export function eventFilter(filter: CallbackSpec["filter"]): (event: ChangeEvent) => boolean {
  const operations = filter?.operations === undefined ? null : new Set<string>(filter.operations);
  const tables =
    filter?.tables === undefined
      ? null
      : new Set(filter.tables.map(({ schema, name }) => JSON.stringify([schema, name])));
  return (event) => {
    if (operations !== null && !operations.has(event.operation)) return false;
    if (tables === null) return true;
    return (
      tables.has(JSON.stringify([event.schema, event.table])) ||
      tables.has(JSON.stringify([event.schema, "*"]))
    );
  };
}
