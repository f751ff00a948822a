/** Logins that databases refused. The same one is not made again too soon: some servers lock a role out. */
import type { Problem } from "../core/reconcile/observed.ts";

/** Milliseconds between logins with credentials that were refused. */
export const AUTHENTICATION_RETRY_MS = 30_000;

export class Refusals {
  readonly #known = new Map<string, { credentials: string; problem: Problem; untilMs: number }>();

  /** @param credentials a fingerprint of what was logged in with @returns why not to try now, or null */
  recent(key: string, credentials: string): Problem | null {
    const known = this.#known.get(key);
    if (known?.credentials !== credentials || performance.now() >= known.untilMs) return null;
    return known.problem;
  }

  note(key: string, credentials: string, problem: Problem): void {
    this.#known.set(key, { credentials, problem, untilMs: performance.now() + AUTHENTICATION_RETRY_MS });
  }

  forget(key: string): void {
    this.#known.delete(key);
  }
}
