/** What a `.d.ts` declares whatever the tables are. */

/** Names that this text declares, or takes from the language. */
export const TYPESCRIPT_NAMES: readonly string[] = [
  ..."PgArray Float Relation Transaction Context InPartition Table TableName Tables PartitionTruncate UpdatedRow".split(
    " ",
  ),
  ..."InsertOf UpdateOf DeleteOf TruncateOf EventsOf RowEvent EventType CloudEvent TableEvent".split(" "),
  ..."ChangeEvent SchemaChange SchemaChangeEvent SchemaCommand SchemaDrop".split(" "),
  ..."ClassicOf ClassicRow ClassicName ClassicPayload".split(" "),
  ..."Extract Uppercase Partial Pick Array String Number Boolean Object Symbol BigInt Function".split(" "),
];

export const PRELUDE = `// Made by \`pg-events types\`; make it anew when tables change.

/** An array of PostgreSQL: any number of dimensions, null for any element. */
export type PgArray<Element> = (Element | null)[] | PgArray<Element>[];

/** JSON has no number for the others. */
export type Float = number | "NaN" | "Infinity" | "-Infinity";

export interface Relation {
  schema: string;
  table: string;
}

export interface Transaction {
  /** A 64 bit number. */
  id: string;
}

/** Part of the context of rows of a partitioned table. */
export interface InPartition {
  /** The partition that holds the row. */
  partition: Relation;
}

/** What \`Tables\` tells of each table. */
export interface Table {
  schema: string;
  table: string;
  row: object;
  /** With \`payload: Changes\`: what an Update holds of the row, before and after. */
  changed?: object;
  /** What identifies a row, the primary key by default; null for a table without one. */
  key: readonly unknown[] | null;
  /** What is captured. */
  operation: "Insert" | "Update" | "Delete" | "Truncate";
  context: Context;
}

export interface InsertOf<T extends Table> {
  operation: "Insert";
  relation: { schema: T["schema"]; table: T["table"] };
  key: T["key"];
  old: null;
  new: T["row"];
  transaction: Transaction;
  context: T["context"];
}

/** What an Update holds of a row: all of it, or what it changed and the key. */
export type UpdatedRow<T extends Table> = T extends { changed: infer Changed } ? Changed : T["row"];

export interface UpdateOf<T extends Table> {
  operation: "Update";
  relation: { schema: T["schema"]; table: T["table"] };
  key: T["key"];
  /** Only when the update changed the key. */
  oldKey?: T["key"];
  old: UpdatedRow<T>;
  new: UpdatedRow<T>;
  transaction: Transaction;
  context: T["context"];
}

export interface DeleteOf<T extends Table> {
  operation: "Delete";
  relation: { schema: T["schema"]; table: T["table"] };
  key: T["key"];
  old: T["row"];
  new: null;
  transaction: Transaction;
  context: T["context"];
}

export interface TruncateOf<T extends Table> {
  operation: "Truncate";
  relation: { schema: T["schema"]; table: T["table"] };
  key: null;
  old: null;
  new: null;
  transaction: Transaction;
  context: Context;
}

export type EventsOf<T extends Table> = T extends Table
  ? Extract<InsertOf<T> | UpdateOf<T> | DeleteOf<T> | TruncateOf<T>, { operation: T["operation"] }>
  : never;

/** \`data\` of the events of a table, by \`operation\`; without a name, of all tables. */
export type RowEvent<Name extends TableName = TableName> = EventsOf<Tables[Name]>;

export interface EventType {
  Insert: "dev.pgevents.row.inserted";
  Update: "dev.pgevents.row.updated";
  Delete: "dev.pgevents.row.deleted";
  Truncate: "dev.pgevents.row.truncated";
  SchemaChange: "dev.pgevents.schema.changed";
}

/** A structured CloudEvent around its data. */
export type CloudEvent<Data extends { operation: keyof EventType }> = Data extends {
  operation: keyof EventType;
}
  ? {
      specversion: "1.0";
      /** The same for each repeat of an event. */
      id: string;
      source: string;
      type: EventType[Data["operation"]];
      /** \`schema.table/key\`. */
      subject: string;
      /** RFC 3339 in UTC with microseconds. */
      time: string;
      partitionkey: string;
      /** Grows within a partitionkey; to be compared as text. */
      sequence: string;
      /** It is delivered again: a dead letter, or a replay; newer events of the row may have come before it. */
      pgeventsreplay?: true;
      /** It is a dead letter of this callback (\`deadLetterCallback\`), for this reason, after so many attempts. */
      pgeventsdeadlettercallback?: string;
      pgeventsdeadlettererror?: string;
      pgeventsdeadletterattempts?: number;
      datacontenttype: "application/json";
      /** Id of the JSON Schema of \`data\`. */
      dataschema?: string;
      data: Data;
    }
  : never;

/** Events of a table; without a name, of all tables. */
export type TableEvent<Name extends TableName = TableName> = CloudEvent<RowEvent<Name>>;

export interface SchemaChange {
  operation: "SchemaChange";
  relation: Relation;
  change: SchemaCommand | SchemaDrop;
  transaction: Transaction;
  /** Empty where tables are compared and not followed by event triggers. */
  context: Partial<Context>;
}

export type SchemaChangeEvent = CloudEvent<SchemaChange>;

/** As pg_event_trigger_ddl_commands() tells it. */
export interface SchemaCommand {
  classid: string;
  objid: string;
  objsubid: number;
  command_tag: string;
  object_type: string;
  schema_name: string;
  object_identity: string;
  in_extension: boolean;
}

/** As pg_event_trigger_dropped_objects() tells it. */
export interface SchemaDrop {
  classid: string;
  objid: string;
  objsubid: number;
  original: boolean;
  normal: boolean;
  is_temporary: boolean;
  object_type: string;
  schema_name: string | null;
  object_name: string | null;
  object_identity: string;
}

/** In the format Classic rows of a partitioned table are told of under the partition's name. */
export type ClassicName<T extends Table> = T["context"] extends InPartition
  ? { table_schema: string; table_name: string }
  : { table_schema: T["schema"]; table_name: T["table"] };

export type ClassicOf<T extends Table> = T extends Table
  ? ClassicName<T> & { session_user: string; query: string | null } & Extract<
        | { method: "INSERT"; new_data: T["row"] }
        | { method: "UPDATE"; old_data: UpdatedRow<T>; new_data: UpdatedRow<T> }
        | { method: "DELETE"; old_data: T["row"] }
        | { method: "TRUNCATE" },
        { method: Uppercase<T["operation"]> }
      >
  : never;

/** What arrives of rows with \`format: Classic\`. */
export type ClassicRow<Name extends TableName = TableName> = ClassicOf<Tables[Name]>;

/** What arrives with \`format: Classic\`. */
export type ClassicPayload = ClassicRow | SchemaCommand | SchemaDrop;

export type TableName = keyof Tables;
`;

export const PARTITION_TRUNCATE = `/** TRUNCATE of a table tells of each of its partitions, too. */
export interface PartitionTruncate {
  operation: "Truncate";
  relation: Relation;
  key: null;
  old: null;
  new: null;
  transaction: Transaction;
  /** \`root\`: the table that it is a part of. */
  context: Context & { root: Relation };
}
`;
