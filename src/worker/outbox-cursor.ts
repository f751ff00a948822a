/**
 * Where reading is: walks from window to window, and through the slices of a large one. Where the lanes of a
 * callback are shared out, it reads its own lanes, and the ends of the windows are agreed on with the others.
 */
import type { ReadEvent } from "../core/delivery/entry.ts";
import type { Position } from "../core/delivery/position.ts";
import type { OutboxReader } from "../postgres/outbox.ts";

export interface CursorRead {
  /** End of the window that the rows belong to. */
  readonly snapshot: string;
  readonly rows: readonly ReadEvent[];
  /** No row of the window is left. */
  readonly complete: boolean;
  /** Nothing is left that was visible when it was read. */
  readonly current: boolean;
}

/** Some of the lanes of a callback. */
export interface SharedLanes {
  readonly callback: string;
  readonly lanes: number;
}

interface Window {
  readonly ahead: string;
  after: string;
  /** No id of the window is above it; null: not known yet. */
  last: string | null;
}

export class OutboxCursor {
  readonly #reader: OutboxReader;
  readonly #shared: SharedLanes | null;
  #seen: string;
  #window: Window | null;

  /** @param shared null: all lanes are read */
  constructor(reader: OutboxReader, start: Position, shared: SharedLanes | null = null) {
    this.#reader = reader;
    this.#shared = shared;
    this.#seen = start.seen;
    this.#window =
      start.ahead === null || start.aheadId === null
        ? null
        : { ahead: start.ahead, after: start.aheadId, last: null };
  }

  /** Reads on. @returns null when nothing happened in the database since the last read */
  async read(): Promise<CursorRead | null> {
    if (this.#window !== null) return this.#readSlice(this.#window);
    if (this.#shared === null) return this.#readFresh(null);
    const ahead = await this.#reader.agreeWindow(this.#shared.callback, this.#seen);
    return ahead === null ? null : this.#readFresh(ahead);
  }

  async #readFresh(ahead: string | null): Promise<CursorRead | null> {
    const { snapshot, rows, complete } = await this.#reader.readFresh(
      this.#seen,
      ahead,
      this.#shared?.lanes ?? null,
    );
    if (snapshot === this.#seen) return null;
    if (complete) this.#seen = snapshot;
    else this.#window = { ahead: snapshot, after: rows.at(-1)?.event.id ?? "0", last: null };
    return { snapshot, rows, complete, current: complete && ahead === null };
  }

  async #readSlice(window: Window): Promise<CursorRead> {
    window.last ??= await this.#reader.prepareSlices();
    const { rows, upTo, complete } = await this.#reader.readSlice(
      this.#seen,
      window.ahead,
      window.after,
      window.last,
      this.#shared?.lanes ?? null,
    );
    window.after = upTo;
    if (complete) {
      this.#seen = window.ahead;
      this.#window = null;
    }
    return { snapshot: window.ahead, rows, complete, current: false };
  }
}
