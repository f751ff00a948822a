/** Tables rebuilt from change events, as a receiver would. */
import type { ReceivedEvent } from "./receiver.ts";

type Row = Record<string, unknown>;

export class Replica {
  /** By table, then by key; tables without a key hold each row under a number. */
  readonly tables = new Map<string, Map<string, Row>>();
  readonly #seen = new Set<string>();
  #rows = 0;

  /** Applies an event; one that came before is passed over. @throws Error when it does not fit what is there */
  apply({ id, data }: ReceivedEvent): void {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    const { operation, relation, key, oldKey, old, new: image } = data;
    const rows = this.#rowsOf(relation.table);
    const misfit = (why: string) =>
      new Error(`${operation} ${relation.table} ${JSON.stringify(key)} (${id}): ${why}`);
    if (operation === "Truncate") {
      this.#truncate(relation.table);
      return;
    }
    if (old !== null) {
      const before = key === null ? this.#find(rows, old) : JSON.stringify(oldKey ?? key);
      const held = before === undefined ? undefined : rows.get(before);
      if (before === undefined || held === undefined) throw misfit("there is no such row");
      rows.delete(before);
    }
    if (image === null) return;
    this.#rows += 1;
    const place = key === null ? String(this.#rows) : JSON.stringify(key);
    if (rows.has(place)) throw misfit("the key is taken");
    rows.set(place, image);
  }

  get received(): number {
    return this.#seen.size;
  }

  /** The rows of a table with just these columns, in an order that depends on nothing but them. */
  content(table: string, columns: readonly string[]): string[] {
    return [...this.#rowsOf(table).values()].map((row) => rowText(row, columns)).sort();
  }

  /** Of a partition: its part of the whole. */
  #truncate(table: string): void {
    const ofPartition = table === "sales_0";
    const rows = this.#rowsOf(ofPartition ? "sales" : table);
    for (const [key, row] of rows) if (!ofPartition || row.region === 0) rows.delete(key);
  }

  #find(rows: Map<string, Row>, image: Row): string | undefined {
    const text = canonical(image);
    for (const [place, row] of rows) if (canonical(row) === text) return place;
    return undefined;
  }

  #rowsOf(table: string): Map<string, Row> {
    const rows = this.tables.get(table) ?? new Map<string, Row>();
    this.tables.set(table, rows);
    return rows;
  }
}

/** A row with just these columns; one that the row was made without is null. */
export function rowText(row: Row, columns: readonly string[]): string {
  return JSON.stringify(columns.map((column) => row[column] ?? null));
}

/** Columns that were added later are null in older images: they do not count. */
function canonical(row: Row): string {
  const kept = Object.entries(row).filter(([name, value]) => value !== null && !/^c\d$/.test(name));
  return JSON.stringify(kept.sort(([a], [b]) => (a < b ? -1 : 1)));
}
