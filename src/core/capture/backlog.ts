/** Limits of the outbox: when one is reached, when it is over, and how that is told. Pure. */
import type { BacklogSpec, CaptureSpec } from "../api/capture.ts";

/** Parts that the outbox is emptied in. */
export const SEGMENTS = 4;
/** Seconds a segment is open at least, unless it grows too large. */
const MIN_OPEN_SECONDS = 60;
/** Part of a limit below which paused capture goes on: two of four segments. */
const RELIEVED = 0.5;

export type ReachedLimit = "Bytes" | "Age";

export interface Backlog {
  /** What the segments take on disk, TOAST and indexes included. */
  readonly bytes: number;
  /** Age in seconds of the oldest event that a callback has not got; 0 without one. */
  readonly callbacks: readonly { readonly name: string; readonly oldestAgeSeconds: number }[];
}

/** Of what `backlog.onLimit` took, and of what `onError: Skip` let go. */
export interface Losses {
  /** RFC 3339; null: capture goes on. */
  readonly pausedSince: string | null;
  /** RFC 3339: the last time within an hour that events were dropped, or that a pause ended. */
  readonly lostAt: string | null;
  /** RFC 3339: the last time within an hour that changes were found not to be captured because of an error. */
  readonly skippedAt: string | null;
  /** How many, since capture was made. */
  readonly skippedChanges: number;
}

export function reachedLimit(limits: BacklogSpec, backlog: Backlog): ReachedLimit | null {
  const { maxBytes = Number.POSITIVE_INFINITY, maxAgeSeconds = Number.POSITIVE_INFINITY } = limits;
  if (backlog.bytes > maxBytes) return "Bytes";
  return oldestAge(backlog) > maxAgeSeconds ? "Age" : null;
}

/** Far enough below every limit, so that capture does not pause and go on every few seconds. */
export function isRelieved({ maxBytes, maxAgeSeconds }: BacklogSpec, backlog: Backlog): boolean {
  return (
    (maxBytes === undefined || backlog.bytes <= maxBytes * RELIEVED) &&
    (maxAgeSeconds === undefined || oldestAge(backlog) <= maxAgeSeconds * RELIEVED)
  );
}

/** When writers move on to the next segment: a part of what limits how long, and how much, is kept. */
export function segmentLimits({ retentionSeconds, backlog }: CaptureSpec): {
  seconds: number;
  bytes: number;
} {
  const { maxBytes, maxAgeSeconds = Number.POSITIVE_INFINITY, onLimit } = backlog;
  const kept = Math.min(retentionSeconds, onLimit === "Alert" ? Number.POSITIVE_INFINITY : maxAgeSeconds);
  return {
    seconds: Math.max(MIN_OPEN_SECONDS, Math.ceil(kept / (SEGMENTS - 1))),
    bytes: onLimit === "Alert" || maxBytes === undefined ? Number.POSITIVE_INFINITY : maxBytes / SEGMENTS,
  };
}

/** What is over the limit, who holds it back, and what to do, for a person. Without figures that are others at the next look. */
export function describeBacklog(reached: ReachedLimit, limits: BacklogSpec, backlog: Backlog): string {
  const oldest = backlog.callbacks.reduce<Backlog["callbacks"][number] | null>(
    (most, one) => (one.oldestAgeSeconds > (most?.oldestAgeSeconds ?? 0) ? one : most),
    null,
  );
  const what =
    reached === "Bytes"
      ? `The outbox takes more than maxBytes (${mebibytes(limits.maxBytes ?? 0)}).`
      : `Events wait for longer than maxAgeSeconds (${limits.maxAgeSeconds}).`;
  return oldest === null
    ? `${what} Every callback has its events; retentionSeconds keeps them.`
    : `${what} Callback ${oldest.name} has not got the oldest events: let it take its events, or remove it from spec.callbacks.`;
}

function oldestAge({ callbacks }: Backlog): number {
  return callbacks.reduce((most, { oldestAgeSeconds }) => Math.max(most, oldestAgeSeconds), 0);
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 30 ? 1 : 0)} MiB`;
}
