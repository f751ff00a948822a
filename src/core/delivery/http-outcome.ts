/**
 * What an HTTP answer, or its absence, means for an event. Messages tell the reader what to do; they
 * are stored with dead letters and logged, so nothing of the answer's or the error's text is in them.
 */
import { isCertificateCode } from "./certificate-code.ts";
import type { AttemptOutcome } from "./transport.ts";

/** Client errors that may pass: timeout, too early, too many requests. */
const RETRYABLE_CLIENT_ERRORS = new Set([408, 425, 429]);
/** Longest wait that a Retry-After is believed, in milliseconds: an hour. */
const MAX_RETRY_AFTER_MS = 3_600_000;

const REFUSALS: Record<number, string> = {
  401: "the receiver wants credentials; check the `headers` of the callback",
  403: "the receiver does not allow the request; check the `headers` of the callback",
  404: "the receiver knows no such path; check `uri`",
  405: "the receiver takes no POST at this path; check `uri`",
  // Permanent also for a batch: the relay then sends its events one by one, and only what is too large alone is refused.
  413: "the request is too large for the receiver; lower `batch.maxBytes`, or raise the receiver's limit",
  415: "the receiver does not take this content type; check `format`",
  431: "the header fields are too large for the receiver, as with a long key; use the format CloudEventsStructured",
};

const FAILURES: Record<string, { readonly code: string; readonly message: string }> = {
  UND_ERR_HEADERS_TIMEOUT: { code: "timeout", message: "no answer in time" },
  UND_ERR_BODY_TIMEOUT: { code: "timeout", message: "no answer in time" },
  UND_ERR_CONNECT_TIMEOUT: { code: "connect-timeout", message: "no connection in time" },
  ETIMEDOUT: { code: "connect-timeout", message: "no connection in time" },
  UND_ERR_SOCKET: {
    code: "connection-lost",
    message: "the receiver closed the connection without an answer",
  },
  ECONNRESET: { code: "ECONNRESET", message: "the receiver cut the connection without an answer" },
  ECONNREFUSED: { code: "ECONNREFUSED", message: "nothing listens at the address of `uri`" },
  ENOTFOUND: { code: "ENOTFOUND", message: "the host name of `uri` is not known" },
  EAI_AGAIN: { code: "EAI_AGAIN", message: "name resolution does not work at the moment" },
};

/**
 * 2xx acknowledges. 408, 425, 429 and 5xx are retryable; every other status is permanent, redirects too.
 * @param retryAfter the header as it came
 * @param nowMs wall clock, for a Retry-After that is a date
 */
export function outcomeOfStatus(
  status: number,
  retryAfter: string | undefined,
  nowMs: number,
): AttemptOutcome {
  const code = String(status);
  if (status >= 200 && status < 300) return { kind: "acknowledged", code };
  if (status >= 500 || RETRYABLE_CLIENT_ERRORS.has(status)) {
    const retryAfterMs = retryAfterMilliseconds(retryAfter, nowMs);
    const message = "the receiver cannot take the event now";
    return retryAfterMs === null
      ? { kind: "retryable", code, message }
      : { kind: "retryable", code, message, retryAfterMs };
  }
  if (status >= 300 && status < 400) {
    return { kind: "permanent", code, message: "redirects are not followed; set `uri` to the final address" };
  }
  return { kind: "permanent", code, message: REFUSALS[status] ?? "the receiver refuses the event" };
}

/** No answer at all: always retryable. @param errorCode of the error that the HTTP client or the system gave */
export function outcomeOfFailure(errorCode: string | undefined): AttemptOutcome {
  if (errorCode === undefined) return { kind: "retryable", code: "failed", message: "the request failed" };
  const known = FAILURES[errorCode];
  if (known !== undefined) return { kind: "retryable", ...known };
  if (isCertificateCode(errorCode)) {
    const message = "the receiver's certificate is not trusted for this host; check `tls.caSecretRef`";
    return { kind: "retryable", code: errorCode, message };
  }
  return { kind: "retryable", code: errorCode, message: "the connection failed" };
}

/** Milliseconds of a Retry-After header, seconds or an HTTP date; null when absent or not understood. */
export function retryAfterMilliseconds(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  const text = header.trim();
  const milliseconds = /^\d+$/.test(text)
    ? Number(text) * 1000
    : / GMT$/.test(text)
      ? Date.parse(text) - nowMs
      : Number.NaN;
  return Number.isNaN(milliseconds) ? null : Math.min(Math.max(0, milliseconds), MAX_RETRY_AFTER_MS);
}
