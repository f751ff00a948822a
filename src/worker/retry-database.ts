import type { Logger } from "../runtime/log.ts";
import { pause } from "./pause.ts";

/** Milliseconds before the same database operation is tried again; doubles to the second number. */
const RETRY_MS = [100, 5000] as const;

export interface RetryOptions {
  readonly signal: AbortSignal;
  readonly callback: string;
  readonly onFailure: () => void;
  readonly log: Logger;
}

/**
 * Repeats a database operation until it succeeds; null when the signal comes before that, even if the
 * database never answers.
 */
export async function retryDatabase<T>(
  what: string,
  operation: () => Promise<T>,
  { signal, callback, onFailure, log }: RetryOptions,
): Promise<T | null> {
  for (let waitMs: number = RETRY_MS[0]; ; waitMs = Math.min(waitMs * 2, RETRY_MS[1])) {
    if (signal.aborted) return null;
    try {
      return await unlessAborted(operation(), signal);
    } catch (error) {
      onFailure();
      log.warn(
        { callback, what, sqlstate: (error as { code?: string }).code },
        "database operation failed, trying again",
      );
      await pause(waitMs * (0.5 + Math.random() / 2), signal);
    }
  }
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const abort = () => resolve(null);
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
