/** Milliseconds between logins with credentials that the server refused: some servers lock a role out. */
export const REFUSED_LOGIN_MS = 30_000;

/** The login that was refused last: the same one is not made again too soon. Pure; the clock is a parameter. */
export class RefusedLogin<Refusal> {
  #last: { readonly credentials: string; readonly refusal: Refusal; readonly untilMs: number } | null = null;

  /** @param credentials a fingerprint of what was logged in with @returns why not to try now, or null */
  recent(credentials: string, nowMs: number): Refusal | null {
    if (this.#last?.credentials !== credentials || nowMs >= this.#last.untilMs) return null;
    return this.#last.refusal;
  }

  note(credentials: string, refusal: Refusal, nowMs: number): void {
    this.#last = { credentials, refusal, untilMs: nowMs + REFUSED_LOGIN_MS };
  }
}
