/**
 * From what was observed to the status: every condition by a function of its own, each looking at the
 * ones before it, and `Ready` derived from all. Pure; the clock is a parameter.
 */
import { CONDITION_TYPES, type Condition, type ConditionType } from "../api/conditions.ts";
import type { PgEventSourceStatus } from "../api/status.ts";
import type { Observed } from "./observed.ts";
import { buildStatus, callbackStatus, keep, totals, workerStatus } from "./status-parts.ts";
import {
  NEW,
  ofAddresses,
  ofBacklog,
  ofBuild,
  ofDelivery,
  ofDeployment,
  ofStep,
  PENDING,
  type Verdict,
  withReady,
} from "./verdicts.ts";

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
