/**
 * When the position is stored: after some events at the latest, so that a crash repeats few; after some
 * milliseconds when there are fewer; one write at a time. `write` repeats until it succeeds or the relay ends.
 */

/** Events acknowledged since the last write that are worth one, or full requests: a write costs as much as several of them. */
const EVENTS = 40;
const FULL_REQUESTS = 10;
/** Milliseconds between two writes at least, and until a write when fewer events come. */
const LEAST_MS = 1.2;
const LAZY_MS = 50;
/** A position that moved by nothing but others' transactions is stored this often. */
const IDLE_MS = 10_000;

export class Checkpoints {
  readonly #write: () => Promise<void>;
  readonly #onWritten: () => void;
  readonly #worthAWrite: number;
  readonly #idle: NodeJS.Timeout;
  #unsaved = 0;
  /** Of those, the ones that the write under way stores. */
  #beingSaved = 0;
  #lastMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> | null = null;
  #ended = false;

  /** @param maxEvents of a request */
  constructor(write: () => Promise<void>, onWritten: () => void, maxEvents: number) {
    this.#write = write;
    this.#onWritten = onWritten;
    this.#worthAWrite = Math.max(EVENTS, FULL_REQUESTS * maxEvents);
    this.#idle = setInterval(() => this.#start(), IDLE_MS);
  }

  /** Events acknowledged that a crash now would repeat. */
  get unstored(): number {
    return this.#unsaved + this.#beingSaved;
  }

  /** So many events were acknowledged. */
  note(events: number): void {
    this.#unsaved += events;
    if (this.#unsaved >= this.#worthAWrite) this.#hurry();
    else this.#timer ??= this.#later(LAZY_MS);
  }

  /** Somebody waits for the position. */
  hurry(): void {
    this.#unsaved += 1;
    this.#hurry();
  }

  /** Stores what is there now; no write is started by itself after that. */
  async end(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#idle);
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#writing;
    await this.#write();
  }

  #hurry(): void {
    if (this.#writing !== null) return;
    const waitMs = this.#lastMs + LEAST_MS - performance.now();
    if (waitMs <= 0) this.#start();
    else this.#timer ??= this.#later(waitMs);
  }

  #later(milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = null;
      this.#start();
    }, milliseconds);
  }

  #start(): void {
    if (this.#writing !== null || this.#ended) return;
    this.#beingSaved = this.#unsaved;
    this.#unsaved = 0;
    this.#lastMs = performance.now();
    this.#writing = this.#write().finally(() => {
      this.#writing = null;
      this.#beingSaved = 0;
      if (this.#ended) return;
      if (this.#unsaved > 0) this.note(0);
      this.#onWritten();
    });
  }
}
