/** An answer of the API server that is not a success, or none at all. Holds no part of any object. */
export class KubernetesApiError extends Error {
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** `reason` of the Status object: NotFound, Conflict, AlreadyExists, Forbidden, Expired … */
  readonly reason: string;
  /** Milliseconds the server asks to wait; 0 when it does not. */
  readonly retryAfterMs: number;

  constructor(status: number, reason: string, message: string, retryAfterMs = 0) {
    super(message);
    this.name = "KubernetesApiError";
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof KubernetesApiError && error.status === 404;
}

export function isConflict(error: unknown): boolean {
  return error instanceof KubernetesApiError && error.status === 409;
}
