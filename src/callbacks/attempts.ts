/** Attempts that are bounded in time and can be given up, whatever the client of a broker does meanwhile. */
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import { ABORTED, outcomeOfOurs } from "./refusal.ts";

const TIMEOUT: AttemptOutcome = { kind: "retryable", code: "timeout", message: "no answer in time" };

export class Attempts {
  readonly #timeoutMs: number;
  readonly #underWay = new Set<Promise<AttemptOutcome>>();

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * The outcome of `work`, or of its end before that: by the time limit or by `signal`. `work` is told of that by
   * `givenUp`; what becomes of it then changes nothing. An error of `work` that is ours is retryable.
   */
  run(signal: AbortSignal, work: (givenUp: AbortSignal) => Promise<AttemptOutcome>): Promise<AttemptOutcome> {
    const attempt = this.#bounded(signal, work).finally(() => this.#underWay.delete(attempt));
    this.#underWay.add(attempt);
    return attempt;
  }

  /** Resolves when no attempt is under way. */
  async finished(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  async #bounded(
    signal: AbortSignal,
    work: (givenUp: AbortSignal) => Promise<AttemptOutcome>,
  ): Promise<AttemptOutcome> {
    const giveUp = new AbortController();
    const ended = Promise.withResolvers<AttemptOutcome>();
    const end = (outcome: AttemptOutcome) => {
      ended.resolve(outcome);
      giveUp.abort();
    };
    const timer = setTimeout(() => end(TIMEOUT), this.#timeoutMs);
    const abort = () => end(ABORTED);
    signal.addEventListener("abort", abort);
    try {
      return await Promise.race([work(giveUp.signal).catch(oursOrThrow), ended.promise]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }
}

function oursOrThrow(error: unknown): AttemptOutcome {
  const outcome = outcomeOfOurs(error);
  if (outcome === null) throw error;
  return outcome;
}
