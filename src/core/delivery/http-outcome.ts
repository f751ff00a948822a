/** What an HTTP answer, or its absence, means for an event. */
import type { AttemptOutcome } from "./transport.ts";

/** Client errors that may pass: timeout, too early, too many requests. */
const RETRYABLE_CLIENT_ERRORS = new Set([408, 425, 429]);
/** Longest wait that a Retry-After is believed, in milliseconds: an hour. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** @param retryAfter the header as it came */
export function outcomeOfStatus(status: number, retryAfter: string | undefined, nowMs: number): AttemptOutcome {
  const code = String(status);
  if (status >= 200 && status < 300) return { kind: "acknowledged", code };
  if (status >= 500 || RETRYABLE_CLIENT_ERRORS.has(status)) {
    const retryAfterMs = retryAfterMilliseconds(retryAfter, nowMs);
    const message = "the receiver asks for another attempt";
    return retryAfterMs === null ? { kind: "retryable", code, message } : { kind: "retryable", code, message, retryAfterMs };
  }
  const message = status >= 300 && status < 400 ? "redirects are not followed; set `uri` to the final address" : "the receiver refuses the event";
  return { kind: "permanent", code, message };
}

/** @param error what the HTTP client threw; only its code and class are used, not its text */
export function outcomeOfFailure(error: unknown): AttemptOutcome {
  const { code, name } = error as { code?: string; name?: string };
  if (name === "AbortError") return { kind: "retryable", code: "aborted", message: "the attempt was given up" };
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" || name === "TimeoutError") {
    return { kind: "retryable", code: "timeout", message: "no answer in time" };
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT") return { kind: "retryable", code: "connect-timeout", message: "no connection in time" };
  if (code === "PGE_ADDRESS_DENIED") return { kind: "retryable", code: "address-denied", message: "the host resolves to an address that may not be called" };
  return { kind: "retryable", code: code ?? "failed", message: "the connection failed" };
}

/** Milliseconds of a Retry-After header, seconds or an HTTP date; null when absent or not understood. */
export function retryAfterMilliseconds(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  const text = header.trim();
  const milliseconds = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : /GMT$/.test(text) ? Date.parse(text) - nowMs : Number.NaN;
  return Number.isNaN(milliseconds) ? null : Math.min(Math.max(0, milliseconds), MAX_RETRY_AFTER_MS);
}
