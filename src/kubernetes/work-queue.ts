/**
 * A queue of keys: a key waits at most once, is worked on by one worker at a time, and is worked on
 * again when it was added meanwhile. Failures wait with exponential backoff and jitter; a success
 * forgets them. (The semantics of client-go's workqueue.)
 *
 * Urgent keys are taken first, then those that went well the last time, then the others: those that fail,
 * or were never tried. Of these at most all workers but one are busy with, so that a thousand databases
 * that do not answer hold up nobody else.
 */
export interface WorkQueueOptions {
  readonly concurrency: number;
  /** Handles a key. Resolves to the milliseconds after which it wants to be called again, or null. Rejects: failure. */
  readonly handle: (key: string) => Promise<number | null>;
  /** Milliseconds of the first wait after a failure, and the longest. */
  readonly backoffMs: readonly [number, number];
  /** A failure's own wishes: milliseconds to wait at least, or null for the backoff alone. */
  readonly onFailure: (key: string, error: unknown) => number | null;
  readonly onMeasure?: (measure: QueueMeasure) => void;
  /** Default: this process's. */
  readonly clock?: QueueClock;
}

/** Time and chance. */
export interface QueueClock {
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Calls once after so many milliseconds. @returns takes that back */
  after(milliseconds: number, call: () => void): () => void;
  /** From 0 up to 1. */
  random(): number;
}

export interface QueueMeasure {
  readonly depth: number;
  /** Set when a key was taken up: seconds it waited. */
  readonly queuedSeconds?: number;
  /** Set when a key is done: seconds it took. */
  readonly workedSeconds?: number;
  readonly added?: true;
  readonly retried?: true;
}

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #clock: QueueClock;
  /** Keys that wait, with the time they were added. */
  readonly #urgent = new Map<string, number>();
  readonly #ordinary = new Map<string, number>();
  readonly #doubtful = new Map<string, number>();
  readonly #running = new Set<string>();
  readonly #runningDoubtful = new Set<string>();
  /** Keys that went well the last time. */
  readonly #well = new Set<string>();
  /** Keys that were added while they were worked on, and whether urgently. */
  readonly #again = new Map<string, boolean>();
  readonly #timers = new Map<string, { readonly atMs: number; readonly cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  readonly #idle: (() => void)[] = [];
  #stopped = false;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    this.#clock = options.clock ?? PROCESS_CLOCK;
  }

  get depth(): number {
    return this.#urgent.size + this.#ordinary.size + this.#doubtful.size;
  }

  /** @param urgent a user's change, before what comes from a first list or a resync */
  add(key: string, urgent = false): void {
    if (this.#stopped) return;
    if (this.#running.has(key)) {
      this.#again.set(key, urgent || this.#again.get(key) === true);
      return;
    }
    this.#clearTimer(key);
    const waiting = [this.#urgent, this.#ordinary, this.#doubtful].find((queue) => queue.has(key));
    const since = waiting?.get(key) ?? this.#clock.nowMs();
    const queue = urgent ? this.#urgent : this.#well.has(key) ? this.#ordinary : this.#doubtful;
    if (waiting === undefined || urgent) {
      if (waiting !== queue) waiting?.delete(key);
      queue.set(key, since);
    }
    this.#measure({ added: true });
    this.#run();
  }

  /** Adds the key after so many milliseconds, unless it is added before; the earliest of several times counts. */
  addAfter(key: string, milliseconds: number): void {
    const atMs = this.#clock.nowMs() + milliseconds;
    if (this.#stopped || (this.#timers.get(key)?.atMs ?? Number.POSITIVE_INFINITY) <= atMs) return;
    this.#clearTimer(key);
    const cancel = this.#clock.after(milliseconds, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { atMs, cancel });
  }

  /** Forgets all that is known of a key that does not exist any more. */
  forget(key: string): void {
    this.#failures.delete(key);
    this.#well.delete(key);
    this.#clearTimer(key);
  }

  /** Takes up nothing new; resolves when what is being worked on is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const key of [...this.#timers.keys()]) this.#clearTimer(key);
    this.#urgent.clear();
    this.#ordinary.clear();
    this.#doubtful.clear();
    if (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #run(): void {
    while (!this.#stopped && this.#running.size < this.#options.concurrency) {
      const queue = this.#nextQueue();
      const next = queue?.entries().next();
      if (queue === null || next === undefined || next.done) return;
      const [key, since] = next.value;
      queue.delete(key);
      this.#running.add(key);
      if (queue === this.#doubtful) this.#runningDoubtful.add(key);
      this.#measure({ queuedSeconds: (this.#clock.nowMs() - since) / 1000 });
      void this.#work(key);
    }
  }

  #nextQueue(): Map<string, number> | null {
    if (this.#urgent.size > 0) return this.#urgent;
    if (this.#ordinary.size > 0) return this.#ordinary;
    const room = Math.max(1, this.#options.concurrency - 1);
    return this.#runningDoubtful.size < room ? this.#doubtful : null;
  }

  async #work(key: string): Promise<void> {
    const startedMs = this.#clock.nowMs();
    let againMs: number | null = null;
    try {
      againMs = await this.#options.handle(key);
      this.#failures.delete(key);
      this.#well.add(key);
    } catch (error) {
      againMs = this.#afterFailure(key, error);
      this.#well.delete(key);
    }
    this.#running.delete(key);
    this.#runningDoubtful.delete(key);
    this.#measure({ workedSeconds: (this.#clock.nowMs() - startedMs) / 1000 });
    const urgent = this.#again.get(key);
    this.#again.delete(key);
    if (urgent !== undefined) this.add(key, urgent);
    else if (againMs !== null) this.addAfter(key, againMs);
    if (this.#stopped && this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    this.#run();
  }

  /** @returns milliseconds to wait: half of the backoff at least, the rest by chance */
  #afterFailure(key: string, error: unknown): number {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const least = this.#options.onFailure(key, error) ?? 0;
    const [first, longest] = this.#options.backoffMs;
    const bound = Math.min(longest, first * 2 ** Math.min(failures - 1, 40));
    this.#measure({ retried: true });
    return Math.max(least, bound * (0.5 + this.#clock.random() / 2));
  }

  #clearTimer(key: string): void {
    this.#timers.get(key)?.cancel();
    this.#timers.delete(key);
  }

  #measure(measure: Omit<QueueMeasure, "depth">): void {
    this.#options.onMeasure?.({ depth: this.depth, ...measure });
  }
}

const PROCESS_CLOCK: QueueClock = {
  nowMs: () => performance.now(),
  after(milliseconds, call) {
    const timer = setTimeout(call, milliseconds);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};
