/**
 * JSON Schema (draft 2020-12) of `data`: a schema a table, each complete by itself. Open for more fields, because
 * a column that comes must not make a receiver refuse events.
 */
import type { Operation } from "../api/capture.ts";
import type { ContextSpec } from "../capture/context.ts";
import { tableText } from "../capture/model.ts";
import { SCHEMA_CHANGE, type SchemaSource, schemaId, tableParts } from "../schema-id.ts";
import type { EventTypes, TypedTable } from "./events.ts";
import { type Field, MASK, type NamedShape, type Shape } from "./shape.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;

const DRAFT = "https://json-schema.org/draft/2020-12/schema";
const TEXT = { type: "string" };
const NULL = { type: "null" };
const TRANSACTION = objectOf({ id: TEXT });
const RELATION = objectOf({ schema: TEXT, table: TEXT });

/** Schemas by name of their type. */
export function jsonSchemas(types: EventTypes, source: SchemaSource): Map<string, JsonSchema> {
  const schemas = new Map(
    types.tables.map((table) => [
      table.typeName,
      { $schema: DRAFT, $id: tableId(table, source), ...tableSchema(table, types) },
    ]),
  );
  if (types.partitionTruncates) {
    const context = objectOf({ ...contextFields(types.context), root: RELATION });
    const truncate = { title: "TRUNCATE of a partition", ...eventSchema("Truncate", RELATION, { context }) };
    schemas.set("PartitionTruncate", {
      $schema: DRAFT,
      $id: schemaId(source, "partition-truncate"),
      ...truncate,
    });
  }
  const change = schemaChange(types.context);
  schemas.set("SchemaChange", { $schema: DRAFT, $id: schemaId(source, SCHEMA_CHANGE), ...change });
  return schemas;
}

/** All of them in one. */
export function jsonSchemaDocument(types: EventTypes, source: SchemaSource): JsonSchema {
  const schemas = jsonSchemas(types, source);
  return {
    $schema: DRAFT,
    $id: schemaId(source, "events"),
    title: "data of every event",
    anyOf: [...schemas.values()].map(({ $id }) => ({ $ref: $id })),
    $defs: Object.fromEntries(schemas),
  };
}

function tableId({ schema, name, version }: TypedTable, source: SchemaSource): string {
  return schemaId(source, ...tableParts(schema, name, version));
}

function tableSchema(table: TypedTable, { named, context }: EventTypes): JsonSchema {
  const writer = new ShapeWriter(named);
  const row = writer.object(table.fields);
  const { unchanged } = table;
  const changes =
    unchanged === null ? {} : { changes: { ...row, required: unchanged.map(({ name }) => name) } };
  const key = table.key.length === 0 ? NULL : writer.tuple(table.key);
  const relation = objectOf({ schema: { const: table.schema }, table: { const: table.name } });
  const rowContext = { ...contextFields(context), ...(table.partitioned ? { partition: RELATION } : {}) };
  const parts = { row: ref("row"), key: ref("key"), context: ref("context") };
  return {
    title: tableText(table),
    ...(table.comment === null ? {} : { description: table.comment }),
    oneOf: table.operations.map((operation) =>
      operation === "Truncate"
        ? eventSchema(operation, relation, { context: objectOf(contextFields(context)) })
        : eventSchema(operation, relation, {
            ...parts,
            ...(operation === "Update" && unchanged !== null ? { row: ref("changes") } : {}),
          }),
    ),
    $defs: { row, ...changes, key, context: objectOf(rowContext), ...writer.definitions() },
  };
}

interface EventParts {
  readonly row?: JsonSchema;
  readonly key?: JsonSchema;
  readonly context: JsonSchema;
}

function eventSchema(operation: Operation, relation: JsonSchema, parts: EventParts): JsonSchema {
  const { row = NULL, key = NULL, context } = parts;
  return objectOf(
    {
      operation: { const: operation },
      relation,
      key,
      old: operation === "Insert" ? NULL : row,
      new: operation === "Delete" ? NULL : row,
      transaction: TRANSACTION,
      context,
    },
    operation === "Update" ? { oldKey: key } : {},
  );
}

function schemaChange(context: ContextSpec): JsonSchema {
  const boolean = { type: "boolean" };
  const textOrNull = { type: ["string", "null"] };
  const object = { classid: TEXT, objid: TEXT, objsubid: { type: "integer" }, object_type: TEXT };
  const command = { command_tag: TEXT, schema_name: TEXT, in_extension: boolean };
  const drop = { original: boolean, normal: boolean, is_temporary: boolean };
  const dropped = { schema_name: textOrNull, object_name: textOrNull };
  return {
    title: "A change of a table",
    ...objectOf({
      operation: { const: "SchemaChange" },
      relation: RELATION,
      change: {
        anyOf: [
          objectOf({ ...object, ...command, object_identity: TEXT }),
          objectOf({ ...object, ...drop, ...dropped, object_identity: TEXT }),
        ],
      },
      transaction: TRANSACTION,
      context: { anyOf: [objectOf(contextFields(context)), { type: "object", maxProperties: 0 }] },
    }),
  };
}

function contextFields({ query, settings, traceparent }: ContextSpec): JsonSchema {
  const textOrNull = { type: ["string", "null"] };
  return {
    session_user: TEXT,
    application_name: TEXT,
    ...(query ? { query: textOrNull } : {}),
    ...(settings === undefined
      ? {}
      : { settings: objectOf(Object.fromEntries(settings.map((name) => [name, textOrNull]))) }),
    ...(traceparent === undefined ? {} : { traceparent: textOrNull }),
  };
}

/** Writes shapes, and keeps what they refer to for `$defs`. */
class ShapeWriter {
  readonly #named: Map<string, NamedShape>;
  readonly #definitions = new Map<string, JsonSchema>();
  /** Names of array types by the schema of their elements. */
  readonly #arrays = new Map<string, string>();

  constructor(named: readonly NamedShape[]) {
    this.#named = new Map(named.map((one) => [one.name, one]));
  }

  definitions(): JsonSchema {
    return Object.fromEntries(this.#definitions);
  }

  object(fields: readonly Field[]): JsonSchema {
    return objectOf(Object.fromEntries(fields.map((field) => [field.name, this.#field(field)])));
  }

  tuple(fields: readonly Field[]): JsonSchema {
    const prefixItems = fields.map(({ shape, nullable }) =>
      nullable ? orNull(this.#shape(shape)) : this.#shape(shape),
    );
    return { type: "array", prefixItems, items: false, minItems: fields.length };
  }

  #field({ shape, nullable, typeText, comment }: Field): JsonSchema {
    const value = this.#shape(shape);
    const about = { ...(comment === null ? {} : { description: comment }), $comment: typeText };
    return { ...about, ...(nullable ? orNull(value) : value) };
  }

  #shape(shape: Shape): JsonSchema {
    switch (shape.kind) {
      case "boolean":
        return { type: "boolean" };
      case "text":
        return TEXT;
      case "mask":
        return { const: MASK };
      case "any":
        return {};
      case "null":
        return NULL;
      case "integer":
        return shape.range === null
          ? { type: "integer" }
          : { type: "integer", minimum: shape.range[0], maximum: shape.range[1] };
      case "number":
        return { anyOf: [{ type: "number" }, { enum: shape.words }] };
      case "array":
        return this.#array(shape.element);
      case "texts":
        return { type: "object", additionalProperties: { type: ["string", "null"] } };
      case "named":
        return this.#name(shape.name);
    }
  }

  /** Of elements, or of arrays of the same kind. */
  #array(element: Shape): JsonSchema {
    const items = orNull(this.#shape(element));
    if (Object.keys(items).length === 0) return { type: "array" };
    const of = JSON.stringify(items);
    const known = this.#arrays.get(of);
    if (known !== undefined) return ref(known);
    const name = `array${this.#arrays.size + 1}`;
    this.#arrays.set(of, name);
    this.#definitions.set(name, { type: "array", anyOf: [{ items }, { items: ref(name) }] });
    return ref(name);
  }

  #name(name: string): JsonSchema {
    const named = this.#named.get(name);
    if (named !== undefined && !this.#definitions.has(name)) {
      const { title } = named;
      const body =
        named.kind === "object"
          ? this.object(named.fields)
          : named.labels.length === 0
            ? { not: {} }
            : { enum: named.labels };
      this.#definitions.set(name, { title, ...body });
    }
    return ref(name);
  }
}

function orNull(schema: JsonSchema): JsonSchema {
  if (Object.keys(schema).length === 0) return schema;
  const { type, ...rest } = schema;
  return typeof type === "string" ? { type: [type, "null"], ...rest } : { anyOf: [schema, NULL] };
}

/** All of `required`, and perhaps those of `optional`. */
function objectOf(required: JsonSchema, optional: JsonSchema = {}): JsonSchema {
  return {
    type: "object",
    properties: withFields(required, optional),
    required: Object.keys(required),
  };
}

/** Not by spreading, for which `__proto__` is no field. */
function withFields(...schemas: readonly JsonSchema[]): JsonSchema {
  return Object.fromEntries(schemas.flatMap((schema) => Object.entries(schema)));
}

function ref(name: string): JsonSchema {
  return { $ref: `#/$defs/${encodeURIComponent(name)}` };
}
