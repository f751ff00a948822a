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
import { type Backlog, describeBacklog, type Losses, type ReachedLimit } from "../capture/backlog.ts";
import { type Failure, type Finding, findingText } from "../capture/findings.ts";
import { knownAddresses, type ObservedAddresses } from "./addresses.ts";
import { callbackTarget } from "./callback-target.ts";
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
  readonly failures: readonly Failure[];
  /** The worst first. */
  readonly findings: readonly Finding[];
  /** With `install: Manual`: what waits for somebody to run it. */
  readonly usable: boolean;
  readonly manual: { readonly steps: number; readonly configMap: string } | null;
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
      readonly lastTransitionTime?: string;
    }[];
  };
}

export interface ObservedDelivery {
  readonly name: string;
  readonly held: boolean;
  readonly state: string;
  readonly lastError: string | null;
  readonly pending: number;
  readonly oldestAgeSeconds: number;
  readonly deadLetters: number;
  readonly lostEvents: number;
}

export interface ObservedOutbox {
  readonly backlog: Backlog;
  readonly reached: ReachedLimit | null;
  readonly losses: Losses;
}

/** Everything a reconcile found out; null: not looked at, because something before it failed. */
export interface Observed {
  readonly source: PgEventSource;
  readonly credentials: Step;
  readonly database: Step | null;
  readonly build: ObservedBuild | Problem | null;
  readonly deployment: ObservedDeployment | Problem | null;
  readonly delivery: readonly ObservedDelivery[] | null;
  readonly outbox?: ObservedOutbox | null | undefined;
  readonly addresses?: ObservedAddresses | null | undefined;
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
  const { source, build, deployment, delivery, outbox = null, addresses = null } = observed;
  const verdicts: [ConditionType, Verdict][] = [
    ["CredentialsResolved", ofStep(observed.credentials, "Resolved")],
    ["DatabaseReachable", observed.database === null ? PENDING : ofStep(observed.database, "Connected")],
    ["Built", ofBuild(build)],
    ["CallbacksResolved", ofAddresses(source, addresses)],
    ["Deployed", ofDeployment(deployment, now)],
    ["Delivering", ofBacklog(source, outbox) ?? ofDelivery(source, delivery)],
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
    ...(delivery === null ? keep("delivery", previous) : { delivery: totals(delivery, outbox) }),
    callbacks: callbackStatus(source, delivery, addresses, previous),
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

/** The status of a source whose build is under way. */
export function assessBuilding(
  generation: number,
  { done, total }: { done: number; total: number },
  previous: PgEventSourceStatus | undefined,
  now: string,
): PgEventSourceStatus {
  const message = `${done} of ${total} tables.`;
  const verdict: Verdict = { status: "Unknown", reason: "Building", message };
  const ready: Verdict = { status: "False", reason: "Building", message: `Built: ${message}` };
  const others = previous?.conditions?.filter(({ type }) => type !== "Ready" && type !== "Built") ?? [];
  const built = condition("Built", verdict, generation, previous, now);
  return {
    ...previous,
    observedGeneration: generation,
    conditions: [condition("Ready", ready, generation, previous, now), ...others, built],
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

/** Findings that status holds, and characters of each: an object in the cluster must not grow with the database. */
const MAX_FINDINGS = 32;
const MAX_FINDING = 1024;

function ofBuild(build: ObservedBuild | Problem | null): Verdict {
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

function ofAddresses(source: PgEventSource, addresses: ObservedAddresses | null): Verdict {
  if (
    addresses === null &&
    source.spec.callbacks.some(({ http }) => http !== undefined && http.uri === undefined)
  )
    return PENDING;
  return ofStep(addresses?.problem ?? { ok: true, message: "Every callback has a target." }, "Resolved");
}

/** Milliseconds without a pod that is available after which that is no start any more, but a failure. */
const UNAVAILABLE_MS = 60_000;

function ofDeployment(deployment: ObservedDeployment | Problem | null, now: string): Verdict {
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

/** Null while the outbox is within its limits, and nothing was lost for them lately. */
function ofBacklog({ spec }: PgEventSource, outbox: ObservedOutbox | null): Verdict | null {
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
  const failed = build.failures.slice(0, 64).map(({ where }) => where);
  const findings = build.findings
    .filter(({ severity }) => severity !== "Info")
    .slice(0, MAX_FINDINGS)
    .map((one) => findingText(one).slice(0, MAX_FINDING));
  const lastBuildTime = build.changed ? now : previous?.build?.lastBuildTime;
  return {
    specHash: build.specHash,
    version,
    tables: build.tables,
    serverVersion: build.serverVersion,
    schemaChangeMode: build.schemaChangeMode,
    ...(failed.length === 0 ? {} : { failedTables: failed }),
    ...(findings.length === 0 ? {} : { findings }),
    ...(build.manual === null ? {} : { manualInstall: { configMapName: build.manual.configMap } }),
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

function totals(delivery: readonly ObservedDelivery[], outbox: ObservedOutbox | null) {
  const since = outbox?.losses.pausedSince ?? null;
  return {
    pendingEvents: delivery.reduce((sum, { pending }) => sum + pending, 0),
    oldestAgeSeconds: Math.round(Math.max(0, ...delivery.map(({ oldestAgeSeconds }) => oldestAgeSeconds))),
    deadLetters: delivery.reduce((sum, { deadLetters }) => sum + deadLetters, 0),
    lostEvents: delivery.reduce((sum, { lostEvents }) => sum + lostEvents, 0),
    ...(outbox === null ? {} : { outboxBytes: outbox.backlog.bytes }),
    ...(since === null ? {} : { capturePausedSince: since }),
    ...((outbox?.losses.skippedChanges ?? 0) === 0 ? {} : { skippedChanges: outbox?.losses.skippedChanges }),
  };
}

function callbackStatus(
  source: PgEventSource,
  delivery: readonly ObservedDelivery[] | null,
  addresses: ObservedAddresses | null,
  previous: PgEventSourceStatus | undefined,
) {
  const addressOf = knownAddresses(source, addresses?.found ?? new Map(), previous);
  return source.spec.callbacks.map((callback) => {
    const { name, suspend, http } = callback;
    const before = previous?.callbacks?.find((one) => one.name === name);
    const uri = callbackTarget(callback) ?? (http === undefined ? undefined : addressOf.get(name));
    const seen = delivery?.find((one) => one.name === name);
    const looked = seen === undefined || !seen.held ? "Waiting" : seen.state;
    const known = delivery === null ? (before?.state ?? "Waiting") : looked;
    const state = suspend || source.spec.suspend ? "Suspended" : known;
    const lastError = delivery === null ? before?.lastError : seen?.lastError;
    return {
      name,
      ...(uri === undefined ? {} : { uri }),
      state,
      ...(lastError ? { lastError } : {}),
      ...(delivery === null ? keptCounts(before) : countsOf(seen)),
    };
  });
}

type CallbackStatus = NonNullable<PgEventSourceStatus["callbacks"]>[number];
type Counts = Pick<CallbackStatus, "pendingEvents" | "oldestAgeSeconds" | "lostEvents">;

function countsOf(seen: ObservedDelivery | undefined): Counts {
  if (seen === undefined) return {};
  const { pending: pendingEvents, oldestAgeSeconds, lostEvents } = seen;
  return {
    pendingEvents,
    oldestAgeSeconds: Math.round(oldestAgeSeconds),
    ...(lostEvents === 0 ? {} : { lostEvents }),
  };
}

function keptCounts(before: CallbackStatus | undefined): Counts {
  const { pendingEvents, oldestAgeSeconds, lostEvents } = before ?? {};
  return Object.fromEntries(
    Object.entries({ pendingEvents, oldestAgeSeconds, lostEvents }).filter(
      ([, value]) => value !== undefined,
    ),
  );
}

function keep<K extends keyof PgEventSourceStatus>(
  field: K,
  previous: PgEventSourceStatus | undefined,
): Pick<PgEventSourceStatus, K> | Record<string, never> {
  return previous?.[field] === undefined
    ? {}
    : ({ [field]: previous[field] } as Pick<PgEventSourceStatus, K>);
}
