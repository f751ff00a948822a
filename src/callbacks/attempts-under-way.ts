/**
 * The attempts of one transport that have no outcome yet: one timer and one listener a signal for all of
 * them, because a timer and a listener for each cost as much as writing the request does.
 */

export interface UnderWay {
  /** Monotonic time (performance.now) at which it is given up; grows in the order of adding. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  timeUp(): void;
  abort(): void;
}

export class AttemptsUnderWay {
  /** In the order they were added, which is the order of their deadlines. */
  readonly #attempts = new Set<UnderWay>();
  readonly #signals = new WeakSet<AbortSignal>();
  #timer: NodeJS.Timeout | null = null;

  add(attempt: UnderWay): void {
    this.#attempts.add(attempt);
    this.#timer ??= this.#watch(attempt.deadlineMs);
    this.#listenTo(attempt.signal);
  }

  delete(attempt: UnderWay): void {
    this.#attempts.delete(attempt);
  }

  #listenTo(signal: AbortSignal): void {
    if (this.#signals.has(signal)) return;
    this.#signals.add(signal);
    const abortAll = () => {
      for (const attempt of [...this.#attempts]) if (attempt.signal === signal) attempt.abort();
    };
    signal.addEventListener("abort", abortAll, { once: true });
  }

  #watch(untilMs: number): NodeJS.Timeout {
    const waitMs = Math.max(1, untilMs - performance.now());
    return setTimeout(() => this.#lookAtDeadlines(), waitMs).unref(); // it is left behind when all are done
  }

  #lookAtDeadlines(): void {
    this.#timer = null;
    const nowMs = performance.now();
    for (const attempt of [...this.#attempts]) {
      if (attempt.deadlineMs > nowMs) {
        this.#timer = this.#watch(attempt.deadlineMs);
        return;
      }
      attempt.timeUp();
    }
  }
}
