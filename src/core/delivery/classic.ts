/**
 * Change events as the Python package pg_events 0.1.6 wrote them, byte for byte the same keys: a data
 * change has table_schema, table_name, session_user, method, old_data, new_data and query, the images
 * only where the operation has them; a schema change is passed on as the database wrote it
 * (sql/functions_schema.sql). What is delivered again has fields for that besides, named like the attributes of CloudEvents.
 */
import type { ChangeEvent } from "../event.ts";
import { resentFields } from "./cloudevents.ts";

interface Context {
  readonly session_user?: string;
  readonly query?: string;
  readonly partition?: { readonly schema: string; readonly table: string };
}

/** One JSON object. `query` is null unless `capture.context.query` is set. */
export function classicPayload(event: ChangeEvent): string {
  const again = resentFields(event);
  if (event.operation === "SchemaChange")
    return again === "" || event.new === null ? (event.new ?? "null") : `${event.new.slice(0, -1)}${again}}`;
  const { session_user, query, partition } = JSON.parse(event.context) as Context;
  const { schema, table } = partition ?? event; // pg_events spoke of the partition
  const old = event.old === null ? "" : `,"old_data":${event.old}`;
  const image = event.new === null ? "" : `,"new_data":${event.new}`;
  return `{"table_schema":${JSON.stringify(schema)},"table_name":${JSON.stringify(table)},"session_user":${JSON.stringify(session_user ?? null)},"method":"${event.operation.toUpperCase()}"${old}${image},"query":${JSON.stringify(query ?? null)}${again}}`;
}
