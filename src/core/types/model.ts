/** Columns and types of the captured tables as the catalog has them. */
import type { TableName } from "../capture/model.ts";

export interface ObservedColumn {
  readonly name: string;
  /** Id of its type. */
  readonly type: string;
  /** pg_attribute.atttypmod. */
  readonly typmod: number;
  /** The type as SQL, e.g. `numeric(10,2)`. */
  readonly typeText: string;
}

export interface ObservedTableColumn extends ObservedColumn {
  /** No row holds null there, also none that was written before. */
  readonly notNull: boolean;
  /** Generated when it is read: triggers see null. */
  readonly virtual: boolean;
  readonly comment: string | null;
}

export interface ObservedTable extends TableName {
  readonly comment: string | null;
  readonly columns: readonly ObservedTableColumn[];
}

/** A row of pg_type; ids as text. */
export interface ObservedType {
  readonly id: string;
  readonly schema: string;
  readonly name: string;
  /** Of a domain: the type under it, which may be a domain too, and its typmod. */
  readonly base: { readonly type: string; readonly typmod: number } | null;
  /** Of a true array: type of its elements. */
  readonly element: string | null;
  /** Of an enum, in order. */
  readonly labels: readonly string[] | null;
  /** Of a composite type. */
  readonly attributes: readonly ObservedColumn[] | null;
  /** A composite type that a table brought along. */
  readonly ofTable: boolean;
  /** row_to_json writes values by the function of a cast to json. */
  readonly castToJson: boolean;
  readonly extension: string | null;
}

export interface ObservedColumns {
  readonly tables: readonly ObservedTable[];
  /** Those of columns, and those that these are made of. */
  readonly types: readonly ObservedType[];
}
