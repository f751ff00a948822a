/** Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015). */

export interface BackoffLimits {
  /** Upper bound of the first wait, in milliseconds. */
  readonly baseMs: number;
  /** Upper bound of every wait, in milliseconds. */
  readonly maxMs: number;
}

/**
 * Milliseconds to wait after the given attempt: anything from 0 up to a bound that doubles with each
 * attempt. A Retry-After of the receiver is a lower bound on top, applied by the caller.
 * @param attempt number of attempts made so far, from 1
 * @param random from 0 (inclusive) to 1 (exclusive)
 */
export function backoffMs(attempt: number, limits: BackoffLimits, random: number): number {
  const bound = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(attempt - 1, 52));
  return bound * random;
}
