/** Ids of the JSON Schemas that `pg-events types` writes, and that events name as `dataschema`. Pure. */
import type { ChangeEvent, EventOrigin } from "./event.ts";

export interface SchemaSource {
  readonly namespace: string;
  readonly name: string;
}

/** A URI: `urn:pg-events:<namespace>:<name>`, and the parts, each percent-encoded. */
export function schemaId({ namespace, name }: SchemaSource, ...parts: readonly string[]): string {
  return ["urn:pg-events", ...[namespace, name, ...parts].map(encodeURIComponent)].join(":");
}

/** What follows `schemaId` of the source in that of a table. @param version of its columns (`aboutTable`) */
export function tableParts(schema: string, table: string, version: string): string[] {
  return ["table", schema, table, version];
}

export const SCHEMA_CHANGE = "schema-change";

/** Ids that are kept; more tables and versions than that only cost time. */
const KEPT = 10_000;
const known = new Map<string, string>();

/** The id of the schema of an event's data; null where none is known, as of a Truncate. */
export function dataSchemaOf({ schemas }: EventOrigin, event: ChangeEvent): string | null {
  if (schemas === undefined) return null;
  const { operation, schema, table, schemaVersion } = event;
  if (operation === "SchemaChange") return `${schemas}:${SCHEMA_CHANGE}`;
  if (schemaVersion === null) return null;
  const key = `${schemas} ${schemaVersion} ${schema.length} ${schema}.${table}`;
  let id = known.get(key);
  if (id === undefined) {
    if (known.size >= KEPT) known.clear();
    id = [schemas, ...tableParts(schema, table, schemaVersion).map(encodeURIComponent)].join(":");
    known.set(key, id);
  }
  return id;
}
