/** Where reading is: walks from window to window, and through the slices of a large one. */
import type { Position } from "../core/delivery/position.ts";
import type { ReadEvent } from "../core/delivery/relay-state.ts";
import type { OutboxReader } from "../postgres/outbox.ts";

export interface CursorRead {
  /** End of the window that the rows belong to. */
  readonly snapshot: string;
  readonly rows: readonly ReadEvent[];
  /** No row of the window is left. */
  readonly complete: boolean;
}

export class OutboxCursor {
  readonly #reader: OutboxReader;
  #seen: string;
  #window: { ahead: string; after: string; last: string | null } | null;

  constructor(reader: OutboxReader, start: Position) {
    this.#reader = reader;
    this.#seen = start.seen;
    this.#window =
      start.ahead === null || start.aheadId === null
        ? null
        : { ahead: start.ahead, after: start.aheadId, last: null };
  }

  /** Reads on. @returns null when nothing happened in the database since the last read */
  async read(): Promise<CursorRead | null> {
    return this.#window === null ? this.#readFresh() : this.#readSlice(this.#window);
  }

  async #readFresh(): Promise<CursorRead | null> {
    const { snapshot, rows, complete } = await this.#reader.readFresh(this.#seen);
    if (snapshot === this.#seen) return null;
    if (complete) this.#seen = snapshot;
    else this.#window = { ahead: snapshot, after: rows.at(-1)?.event.id ?? "0", last: null };
    return { snapshot, rows, complete };
  }

  async #readSlice(window: { ahead: string; after: string; last: string | null }): Promise<CursorRead> {
    window.last ??= await this.#reader.prepareSlices();
    const { rows, upTo, complete } = await this.#reader.readSlice(
      this.#seen,
      window.ahead,
      window.after,
      window.last,
    );
    window.after = upTo;
    if (complete) {
      this.#seen = window.ahead;
      this.#window = null;
    }
    return { snapshot: window.ahead, rows, complete };
  }
}
