/**
 * The one error type that pg-events raises on purpose. Everything a user can act on has a stable
 * code (`PGE_…`), says what is wrong, where, and what to do; it never carries a password, a header
 * value or the content of a row.
 */

/** What the caller should do with the failed piece of work. */
export type Disposition =
  /** The world may change: try again with backoff. */
  | "retry"
  /** It will fail in the same way until somebody changes the input. */
  | "stop";

export interface PgEventsErrorOptions {
  /** What the user can do about it, one sentence. */
  remedy?: string;
  /** A condition reason of `core/api/conditions.ts` when the error belongs to one, else absent. */
  reason?: string;
  disposition?: Disposition;
  cause?: unknown;
}

export class PgEventsError extends Error {
  readonly code: string;
  readonly remedy: string | undefined;
  readonly reason: string | undefined;
  readonly disposition: Disposition;

  /** @param code stable code, `PGE_…`; listed in docs/reference/errors.md */
  constructor(code: string, message: string, options: PgEventsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PgEventsError";
    this.code = code;
    this.remedy = options.remedy;
    this.reason = options.reason;
    this.disposition = options.disposition ?? "stop";
  }
}

/** The text shown to a person: code, message, remedy; no stack and no cause. */
export function describeError(error: unknown): string {
  if (error instanceof PgEventsError) {
    return error.remedy === undefined
      ? `${error.code}: ${error.message}`
      : `${error.code}: ${error.message} ${error.remedy}`;
  }
  return error instanceof Error ? error.message : String(error);
}
