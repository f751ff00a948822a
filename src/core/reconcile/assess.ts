/**
 * From what was observed to the status: every condition by a function of its own, each looking at the
 * ones before it, and `Ready` derived from all. Pure; the clock is a parameter.
 */
import {
  CONDITION_TYPES,
  type Condition,
  type ConditionStatus,
  type ConditionType,
  type Reason,
} from "../api/conditions.ts";
import type { PgEventSource } from "../api/source.ts";
import type { PgEventSourceStatus } from "../api/status.ts";
import type { TableFailure } from "../capture/model.ts";
import { selectorText } from "./worker-deployment.ts";

/** The outcome of a step: fine, or why not. */
export type Step = { readonly ok: true; readonly message: string } | Problem;

export interface Problem {
  readonly ok: false;
  readonly reason: Reason;
  readonly message: string;
}

export interface ObservedBuild {
  readonly tables: number;
  readonly failures: readonly TableFailure[];
  readonly specHash: string;
  readonly serverVersion: string;
  readonly schemaChangeMode: string;
  readonly changed: boolean;
}

export interface ObservedDeployment {
  readonly metadata: { readonly name: string; readonly generation?: number };
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly readyReplicas?: number;
    readonly availableReplicas?: number;
    readonly unavailableReplicas?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

export interface ObservedDelivery {
  readonly name: string;
  readonly held: boolean;
  readonly state: string;
  readonly lastError: string | null;
  readonly pending: number;
  readonly deadLetters: number;
}

/** Everything a reconcile found out; null: not looked at, because something before it failed. */
export interface Observed {
  readonly source: PgEventSource;
  readonly credentials: Step;
  readonly database: Step | null;
  readonly build: ObservedBuild | Problem | null;
  readonly deployment: ObservedDeployment | Problem | null;
  readonly delivery: readonly ObservedDelivery[] | null;
}

interface Verdict {
  readonly status: ConditionStatus;
  readonly reason: Reason;
  readonly message: string;
}

const PENDING: Verdict = {
  status: "Unknown",
  reason: "Pending",
  message: "Waits for the conditions before it.",
};

const NEW: Verdict = { status: "Unknown", reason: "Pending", message: "Not looked at yet." };

/** @param now RFC 3339, seconds @param previous the status as it is stored */
export function assess(
  observed: Observed,
  previous: PgEventSourceStatus | undefined,
  now: string,
  version: string,
): PgEventSourceStatus {
  const { source, build, deployment, delivery } = observed;
  const verdicts: [ConditionType, Verdict][] = [
    ["CredentialsResolved", ofStep(observed.credentials, "Resolved")],
    ["DatabaseReachable", observed.database === null ? PENDING : ofStep(observed.database, "Connected")],
    ["Built", ofBuild(build)],
    [
      "CallbacksResolved",
      { status: "True", reason: "Resolved", message: "Every callback has an absolute address or a module." },
    ],
    ["Deployed", ofDeployment(deployment)],
    ["Delivering", ofDelivery(source, delivery)],
  ];
  const generation = source.metadata.generation ?? 0;
  const conditions = withReady(verdicts, source).map(([type, verdict]) =>
    condition(type, verdict, generation, previous, now),
  );
  return {
    observedGeneration: generation,
    conditions,
    build: buildStatus(build, previous, now, version),
    ...(deployment === null || "ok" in deployment
      ? keep("worker", previous)
      : { worker: workerStatus(source, deployment) }),
    ...(delivery === null ? keep("delivery", previous) : { delivery: totals(delivery) }),
    callbacks: callbackStatus(source, delivery, previous),
  };
}

/** The status of a source that nobody has looked at yet. */
export function assessFirst(generation: number, now: string): PgEventSourceStatus {
  const types = Object.keys(CONDITION_TYPES) as ConditionType[];
  return {
    observedGeneration: generation,
    conditions: types.map((type) => condition(type, NEW, generation, undefined, now)),
  };
}

/** The status of a source that is being deleted, and whose capture cannot be removed yet. */
export function assessBlocked(
  generation: number,
  message: string,
  previous: PgEventSourceStatus | undefined,
  now: string,
): PgEventSourceStatus {
  return withReadyOnly({ status: "False", reason: "CleanupBlocked", message }, generation, previous, now);
}

/** The status of a source that is not looked at, as its annotation wants it. */
export function assessDisabled(
  generation: number,
  previous: PgEventSourceStatus | undefined,
  now: string,
): PgEventSourceStatus {
  const message = "Nothing is done for this source while its reconciliation is disabled.";
  return withReadyOnly(
    { status: "Unknown", reason: "ReconciliationDisabled", message },
    generation,
    previous,
    now,
  );
}

/** What was found out before stays; only Ready changes. */
function withReadyOnly(
  verdict: Verdict,
  generation: number,
  previous: PgEventSourceStatus | undefined,
  now: string,
): PgEventSourceStatus {
  const others = previous?.conditions?.filter(({ type }) => type !== "Ready") ?? [];
  const ready = condition("Ready", verdict, generation, previous, now);
  return { ...previous, observedGeneration: generation, conditions: [ready, ...others] };
}

/** The status of a source whose stored spec does not parse. */
export function assessInvalid(
  generation: number,
  message: string,
  previous: PgEventSourceStatus | undefined,
  now: string,
): PgEventSourceStatus {
  const invalid: Verdict = { status: "False", reason: "InvalidSpec", message };
  const verdicts: [ConditionType, Verdict][] = [
    ["Ready", invalid],
    ["CredentialsResolved", PENDING],
    ["DatabaseReachable", PENDING],
    ["Built", invalid],
    ["CallbacksResolved", PENDING],
    ["Deployed", PENDING],
    ["Delivering", PENDING],
  ];
  return {
    ...previous,
    observedGeneration: generation,
    conditions: verdicts.map(([type, verdict]) => condition(type, verdict, generation, previous, now)),
  };
}

/** `lastTransitionTime` moves only when `status` flips. */
function condition(
  type: ConditionType,
  verdict: Verdict,
  observedGeneration: number,
  previous: PgEventSourceStatus | undefined,
  now: string,
): Condition {
  const before = previous?.conditions?.find((one) => one.type === type);
  const lastTransitionTime = before?.status === verdict.status ? before.lastTransitionTime : now;
  return { type, ...verdict, observedGeneration, lastTransitionTime };
}

function withReady(verdicts: [ConditionType, Verdict][], source: PgEventSource): [ConditionType, Verdict][] {
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

function ofStep(step: Step, good: Reason): Verdict {
  if (step.ok) return { status: "True", reason: good, message: step.message };
  return { status: "False", reason: step.reason, message: step.message };
}

function ofBuild(build: ObservedBuild | Problem | null): Verdict {
  if (build === null) return PENDING;
  if ("ok" in build) return { status: "False", reason: build.reason, message: build.message };
  const first = build.failures[0];
  if (first === undefined)
    return { status: "True", reason: "Built", message: `Tables captured: ${build.tables}.` };
  const others =
    build.failures.length > 1 ? ` And ${build.failures.length - 1} more; see status.build.failedTables.` : "";
  return { status: "False", reason: first.reason, message: `${first.message}${others}` };
}

function ofDeployment(deployment: ObservedDeployment | Problem | null): Verdict {
  if (deployment === null) return PENDING;
  if ("ok" in deployment) return { status: "False", reason: deployment.reason, message: deployment.message };
  const { status = {}, spec = {}, metadata } = deployment;
  const wanted = spec.replicas ?? 1;
  const failure = status.conditions?.find(
    ({ type, status: value }) =>
      (type === "ReplicaFailure" && value === "True") || (type === "Progressing" && value === "False"),
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
  if (settled && (status.availableReplicas ?? 0) === wanted) {
    return {
      status: "True",
      reason: "Available",
      message: `${wanted} of ${wanted} worker pods are available.`,
    };
  }
  const message = `${status.availableReplicas ?? 0} of ${wanted} worker pods are available.`;
  return { status: "Unknown", reason: "DeploymentUpdating", message };
}

function ofDelivery(source: PgEventSource, delivery: readonly ObservedDelivery[] | null): Verdict {
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

function buildStatus(
  build: ObservedBuild | Problem | null,
  previous: PgEventSourceStatus | undefined,
  now: string,
  version: string,
) {
  if (build === null || "ok" in build) return previous?.build ?? {};
  const failed = build.failures.slice(0, 64).map(({ table }) => table);
  const lastBuildTime = build.changed ? now : previous?.build?.lastBuildTime;
  return {
    specHash: build.specHash,
    version,
    tables: build.tables,
    serverVersion: build.serverVersion,
    schemaChangeMode: build.schemaChangeMode,
    ...(failed.length === 0 ? {} : { failedTables: failed }),
    ...(lastBuildTime === undefined ? {} : { lastBuildTime }),
  };
}

function workerStatus(source: PgEventSource, { metadata, status = {} }: ObservedDeployment) {
  return {
    deploymentName: metadata.name,
    replicas: status.replicas ?? 0,
    readyReplicas: status.readyReplicas ?? 0,
    selector: selectorText(source),
  };
}

function totals(delivery: readonly ObservedDelivery[]) {
  return {
    pendingEvents: delivery.reduce((sum, { pending }) => sum + pending, 0),
    deadLetters: delivery.reduce((sum, { deadLetters }) => sum + deadLetters, 0),
  };
}

function callbackStatus(
  source: PgEventSource,
  delivery: readonly ObservedDelivery[] | null,
  previous: PgEventSourceStatus | undefined,
) {
  return source.spec.callbacks.map(({ name, suspend, http }) => {
    const before = previous?.callbacks?.find((one) => one.name === name);
    const seen = delivery?.find((one) => one.name === name);
    const looked = seen === undefined || !seen.held ? "Waiting" : seen.state;
    const known = delivery === null ? (before?.state ?? "Waiting") : looked;
    const state = suspend || source.spec.suspend ? "Suspended" : known;
    const lastError = delivery === null ? before?.lastError : seen?.lastError;
    return {
      name,
      ...(http === undefined ? {} : { uri: http.uri }),
      state,
      ...(lastError ? { lastError } : {}),
    };
  });
}

function keep<K extends keyof PgEventSourceStatus>(
  field: K,
  previous: PgEventSourceStatus | undefined,
): Pick<PgEventSourceStatus, K> | Record<string, never> {
  return previous?.[field] === undefined
    ? {}
    : ({ [field]: previous[field] } as Pick<PgEventSourceStatus, K>);
}
