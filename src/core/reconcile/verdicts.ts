/** Each condition by a function of its own, from what was observed. Pure. */

import type { ConditionStatus, ConditionType, Reason } from "../api/conditions.ts";
import type { PgEventSource } from "../api/source.ts";
import { describeBacklog } from "../capture/backlog.ts";
import type { ObservedAddresses } from "./addresses.ts";
import type {
  ObservedBuild,
  ObservedDelivery,
  ObservedDeployment,
  ObservedOutbox,
  Problem,
  Step,
} from "./observed.ts";
import { MAX_FINDING } from "./status-parts.ts";

export interface Verdict {
  readonly status: ConditionStatus;
  readonly reason: Reason;
  readonly message: string;
}

export const PENDING: Verdict = {
  status: "Unknown",
  reason: "Pending",
  message: "Waits for the conditions before it.",
};

export const NEW: Verdict = { status: "Unknown", reason: "Pending", message: "Not looked at yet." };

/** The conditions with `Ready` before them, which is derived from all. */
export function withReady(
  verdicts: [ConditionType, Verdict][],
  source: PgEventSource,
): [ConditionType, Verdict][] {
  const suspended: Verdict = {
    status: "False",
    reason: "Suspended",
    message: "Delivery is suspended; the outbox keeps the events.",
  };
  const failed = verdicts.find(([, { status }]) => status === "False");
  const open = verdicts.find(([, { status }]) => status === "Unknown");
  const ready: Verdict =
    failed !== undefined
      ? { ...failed[1], message: `${failed[0]}: ${failed[1].message}` }
      : source.spec.suspend
        ? suspended
        : open !== undefined
          ? { status: "False", reason: open[1].reason, message: `${open[0]}: ${open[1].message}` }
          : { status: "True", reason: "Ready", message: "Events flow to every callback." };
  return [["Ready", ready], ...verdicts];
}

export function ofStep(step: Step, good: Reason): Verdict {
  if (step.ok) return { status: "True", reason: good, message: step.message };
  return { status: "False", reason: step.reason, message: step.message };
}

export function ofBuild(build: ObservedBuild | Problem | null): Verdict {
  if (build === null) return PENDING;
  if ("ok" in build) return { status: "False", reason: build.reason, message: build.message };
  if (build.manual !== null) {
    const { steps, configMap } = build.manual;
    const message = `Run the SQL in ConfigMap ${configMap} (${steps} ${steps === 1 ? "step" : "steps"}); spec.capture.install is Manual.`;
    return { status: "False", reason: "ManualInstallPending", message };
  }
  const first = build.failures[0];
  if (first === undefined) {
    const warnings = build.findings.filter(({ severity }) => severity === "Warning").length;
    const hint = warnings > 0 ? ` Warnings: ${warnings}; see status.build.findings.` : "";
    return { status: "True", reason: "Built", message: `Tables captured: ${build.tables}.${hint}` };
  }
  const others =
    build.failures.length > 1 ? ` And ${build.failures.length - 1} more; see status.build.findings.` : "";
  const text = [first.message, first.remedy ?? ""].join(" ").trim().slice(0, MAX_FINDING);
  return { status: "False", reason: first.code, message: `${text}${others}` };
}

export function ofAddresses(source: PgEventSource, addresses: ObservedAddresses | null): Verdict {
  if (
    addresses === null &&
    source.spec.callbacks.some(({ http }) => http !== undefined && http.uri === undefined)
  )
    return PENDING;
  return ofStep(addresses?.problem ?? { ok: true, message: "Every callback has a target." }, "Resolved");
}

/** Milliseconds without a pod that is available after which that is no start any more, but a failure. */
const UNAVAILABLE_MS = 60_000;

export function ofDeployment(deployment: ObservedDeployment | Problem | null, now: string): Verdict {
  if (deployment === null) return PENDING;
  if ("ok" in deployment) return { status: "False", reason: deployment.reason, message: deployment.message };
  const { status = {}, spec = {}, metadata } = deployment;
  const wanted = spec.replicas ?? 1;
  const { conditions = [] } = status;
  const failure =
    conditions.find(({ type, status: value }) => type === "ReplicaFailure" && value === "True") ??
    conditions.find(({ type, status: value }) => type === "Progressing" && value === "False") ??
    conditions.find(
      ({ type, status: value, lastTransitionTime = now }) =>
        type === "Available" &&
        value === "False" &&
        Date.parse(now) - Date.parse(lastTransitionTime) >= UNAVAILABLE_MS,
    );
  if (failure !== undefined) {
    return {
      status: "False",
      reason: "DeploymentUnavailable",
      message: `Worker pods: ${failure.reason ?? failure.type}.`,
    };
  }
  const settled =
    (status.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    (status.updatedReplicas ?? 0) === wanted &&
    (status.replicas ?? 0) === wanted;
  const available = status.availableReplicas ?? 0;
  const all = `${available} of ${wanted} worker pods are available.`;
  if (settled && available === wanted) return { status: "True", reason: "Available", message: all };
  const waiting = Math.max(0, (status.replicas ?? 0) - available);
  const rollout = `A rollout is under way: ${available} worker pods are available, ${waiting} not yet; those before work on meanwhile.`;
  const message = available >= wanted ? rollout : all;
  return { status: "Unknown", reason: "DeploymentUpdating", message };
}

/** Null while the outbox is within its limits, and nothing was lost for them lately. */
export function ofBacklog({ spec }: PgEventSource, outbox: ObservedOutbox | null): Verdict | null {
  if (outbox === null) return null;
  const { backlog, reached, losses } = outbox;
  const limit = reached === null ? "" : describeBacklog(reached, spec.capture.backlog, backlog);
  const not = (reason: Reason, message: string): Verdict => ({ status: "False", reason, message });
  if (losses.pausedSince !== null) {
    const since = `Changes are not captured, and so lost, since ${losses.pausedSince}`;
    return not("CapturePaused", `${since}, until the outbox is down to half of its limit. ${limit}`.trim());
  }
  if (losses.lostAt !== null) {
    const where = `status.callbacks and table ${spec.capture.schemaName}.loss say what`;
    return not(
      "EventsLost",
      `Events were lost at the outbox's limit at ${losses.lostAt}; ${where}. ${limit}`.trim(),
    );
  }
  if (losses.skippedAt !== null) {
    return not(
      "ChangesSkipped",
      `Changes could not be captured, the last at ${losses.skippedAt} (${losses.skippedChanges} in all), and are lost, as capture.onError is Skip; the PostgreSQL log has a warning with the reason of each. ${limit}`.trim(),
    );
  }
  return reached === null ? null : not("BacklogLimitReached", limit);
}

export function ofDelivery(source: PgEventSource, delivery: readonly ObservedDelivery[] | null): Verdict {
  if (delivery === null) return PENDING;
  if (source.spec.suspend)
    return { status: "Unknown", reason: "Suspended", message: "Delivery is suspended." };
  const active = new Set(source.spec.callbacks.filter(({ suspend }) => !suspend).map(({ name }) => name));
  const looked = delivery.filter(({ name }) => active.has(name));
  const failing = looked.find(({ state }) => state === "Failing");
  if (failing !== undefined) {
    return {
      status: "False",
      reason: "CallbackFailing",
      message: `Callback ${failing.name}: ${failing.lastError ?? "attempts fail"}.`,
    };
  }
  const waiting = looked.find(({ held, state }) => !held || state !== "Delivering");
  if (waiting !== undefined || looked.length < active.size) {
    return {
      status: "Unknown",
      reason: "WaitingForWorker",
      message: `Callback ${waiting?.name ?? "(new)"} waits for a worker.`,
    };
  }
  return { status: "True", reason: "Delivering", message: `Callbacks served: ${looked.length}.` };
}
