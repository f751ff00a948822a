/** When a source is looked at again although nothing tells of a change. Pure; chance is a parameter. */
import type { PgEventSourceStatus } from "../api/status.ts";
import { isSettling, readyCondition } from "./transitions.ts";

/** Milliseconds while pods start and callbacks are taken over: a new worker is to be Ready soon. */
const SETTLING_MS = 3000;
/** Milliseconds after which that has taken too long to be asked for at this pace. */
const SETTLING_PATIENCE_MS = 60_000;
/** Milliseconds for a source that waits for somebody to change something. */
const UNREADY_MS = 20_000;
/** Milliseconds between attempts to remove capture from a database that is away. */
const CLEANUP_MS = 10_000;

export interface ScheduleOptions {
  /** Milliseconds between looks at a source that is well. */
  readonly resyncMs: number;
  readonly nowMs: number;
  /** From 0 to 1; spreads the looks by ± 10 %. */
  readonly random: number;
}

/** @returns milliseconds */
export function nextLookMs(
  status: PgEventSourceStatus,
  { resyncMs, nowMs, random }: ScheduleOptions,
): number {
  const ready = readyCondition(status);
  const sinceMs = nowMs - Date.parse(ready?.lastTransitionTime ?? "");
  const spread = 0.9 + random * 0.2;
  if (isSettling(status) && !(sinceMs > SETTLING_PATIENCE_MS)) return SETTLING_MS;
  if (ready?.status === "True" || ready?.reason === "Suspended") return resyncMs * spread;
  return Math.min(UNREADY_MS, resyncMs) * spread;
}

/** Milliseconds until a blocked deletion is tried again: soon, and not much after its deadline; 0 when that is over. */
export function nextCleanupMs(
  deletionTimestamp: string | undefined,
  deadlineSeconds: number,
  nowMs: number,
): number {
  const leftMs = Date.parse(deletionTimestamp ?? "") + deadlineSeconds * 1000 - nowMs;
  return leftMs > 0 ? Math.min(CLEANUP_MS, leftMs + 1000) : 0;
}
