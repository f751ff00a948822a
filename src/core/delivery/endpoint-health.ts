/**
 * Whether the callback's endpoint as a whole takes requests. A key that fails while others succeed
 * is that key's trouble; when nothing succeeds any more the endpoint is down, and waiting is done
 * once for the endpoint instead of once for each event.
 *
 *   Open ─ FAILURES_TO_CLOSE in a row ─► Closed ─ time is up ─► one probe ─ success ─► Open
 *                                          ▲─────────── failure ───┘
 */

/** Failures in a row, with no success between, after which the endpoint counts as down. */
const FAILURES_TO_CLOSE = 3;

export class EndpointHealth {
  #failures = 0;
  #closures = 0;
  #closedUntilMs = 0;
  #probing = false;

  get closed(): boolean {
    return this.#closures > 0;
  }

  /** May a request start now? In Closed, one probe at a time once the time is up. */
  mayStart(nowMs: number): boolean {
    if (!this.closed) return true;
    return !this.#probing && nowMs >= this.#closedUntilMs;
  }

  started(): void {
    if (this.closed) this.#probing = true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#closures = 0;
    this.#probing = false;
  }

  /**
   * @param wait gives the milliseconds to stay closed, from the number of closures in a row
   * @param retryAfterMs what the receiver asked for, a lower bound
   */
  failed(nowMs: number, wait: (closures: number) => number, retryAfterMs: number): void {
    this.#failures += 1;
    const late = this.closed && !this.#probing; // started before the endpoint was closed: tells nothing new
    if (late || (!this.closed && this.#failures < FAILURES_TO_CLOSE && retryAfterMs === 0)) return;
    this.#probing = false;
    this.#closures += 1;
    this.#closedUntilMs = nowMs + Math.max(wait(this.#closures), retryAfterMs);
  }

  /** An attempt told nothing of the endpoint: if it was the probe, another one may start. */
  interrupted(nowMs: number, retryAfterMs: number): void {
    this.#probing = false;
    this.#closedUntilMs = Math.max(this.#closedUntilMs, nowMs + retryAfterMs);
  }

  /** When `mayStart` can turn true by time alone; null when it waits for nothing or for a probe's outcome. */
  dueMs(): number | null {
    return this.closed && !this.#probing ? this.#closedUntilMs : null;
  }
}
