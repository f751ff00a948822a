/** What a user is told of, as Kubernetes events, when the status of a source changes. Pure. */
import type { Condition, EventReason } from "../api/conditions.ts";
import type { PgEventSourceStatus } from "../api/status.ts";

export interface Transition {
  readonly type: "Normal" | "Warning";
  readonly reason: EventReason;
  readonly message: string;
}

/** Reasons of a source on its way to Ready: nobody has to do anything, so there is no event. */
const SETTLING: readonly string[] = ["WaitingForWorker", "DeploymentUpdating", "Pending", "Building"];

/** Reasons that a user asked for. */
const WANTED: readonly string[] = ["Suspended", "ReconciliationDisabled"];

export function readyCondition(status: PgEventSourceStatus | undefined): Condition | undefined {
  return status?.conditions?.find(({ type }) => type === "Ready") as Condition | undefined;
}

export function isSettling(status: PgEventSourceStatus): boolean {
  return SETTLING.includes(readyCondition(status)?.reason ?? "Pending");
}

/** At most the change of Ready, and that the source was resumed. */
export function transitions(
  before: PgEventSourceStatus | undefined,
  after: PgEventSourceStatus,
): Transition[] {
  const old = readyCondition(before);
  const ready = readyCondition(after);
  if (ready === undefined || ready.reason === old?.reason) return [];
  const told: Transition[] = [];
  if (old?.reason === "Suspended")
    told.push({ type: "Normal", reason: "Resumed", message: "Delivery goes on." });
  if (SETTLING.includes(ready.reason)) return told;
  const good = ready.status === "True" || WANTED.includes(ready.reason);
  return [...told, { type: good ? "Normal" : "Warning", reason: ready.reason, message: ready.message }];
}
