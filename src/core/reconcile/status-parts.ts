/** The parts of the status besides its conditions. Pure. */
import type { PgEventSource } from "../api/source.ts";
import type { PgEventSourceStatus } from "../api/status.ts";
import { findingText } from "../capture/findings.ts";
import { knownAddresses, type ObservedAddresses } from "./addresses.ts";
import { callbackTarget } from "./callback-target.ts";
import type {
  ObservedBuild,
  ObservedDelivery,
  ObservedDeployment,
  ObservedOutbox,
  Problem,
} from "./observed.ts";
import { selectorText } from "./worker-deployment.ts";

/** Findings that status holds, and characters of each: an object in the cluster must not grow with the database. */
const MAX_FINDINGS = 32;
export const MAX_FINDING = 1024;

export function buildStatus(
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
    captureMode: "Trigger", // the only one there is
    ...(build.schemaVersion === 0 ? {} : { schemaVersion: build.schemaVersion }),
    tables: build.tables,
    serverVersion: build.serverVersion,
    schemaChangeMode: build.schemaChangeMode,
    ...(failed.length === 0 ? {} : { failedTables: failed }),
    ...(findings.length === 0 ? {} : { findings }),
    ...(build.manual === null ? {} : { manualInstall: { configMapName: build.manual.configMap } }),
    ...(lastBuildTime === undefined ? {} : { lastBuildTime }),
  };
}

export function workerStatus(source: PgEventSource, { metadata, status = {} }: ObservedDeployment) {
  return {
    deploymentName: metadata.name,
    replicas: status.replicas ?? 0,
    readyReplicas: status.readyReplicas ?? 0,
    selector: selectorText(source),
  };
}

export function totals(delivery: readonly ObservedDelivery[], outbox: ObservedOutbox | null) {
  const since = outbox?.losses.pausedSince ?? null;
  const oldest = delivery.flatMap(({ oldestPendingTime }) => oldestPendingTime ?? []).sort()[0];
  return {
    pendingEvents: delivery.reduce((sum, { pending }) => sum + pending, 0),
    ...(oldest === undefined ? {} : { oldestPendingTime: oldest }),
    deadLetters: delivery.reduce((sum, { deadLetters }) => sum + deadLetters, 0),
    lostEvents: delivery.reduce((sum, { lostEvents }) => sum + lostEvents, 0),
    ...(outbox === null ? {} : { outboxBytes: outbox.backlog.bytes }),
    ...(since === null ? {} : { capturePausedSince: since }),
    ...((outbox?.losses.skippedChanges ?? 0) === 0 ? {} : { skippedChanges: outbox?.losses.skippedChanges }),
  };
}

export function callbackStatus(
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

/** The status without what changes at each look while events flow. */
export function withoutFlow({ delivery, callbacks, ...rest }: PgEventSourceStatus): PgEventSourceStatus {
  const {
    pendingEvents: _pending,
    oldestPendingTime: _oldest,
    outboxBytes: _bytes,
    ...steady
  } = delivery ?? {};
  const steadily = callbacks?.map(({ pendingEvents: _events, oldestPendingTime: _time, ...one }) => one);
  return {
    ...rest,
    ...(delivery === undefined ? {} : { delivery: steady }),
    ...(steadily === undefined ? {} : { callbacks: steadily }),
  };
}

type CallbackStatus = NonNullable<PgEventSourceStatus["callbacks"]>[number];
type Counts = Pick<CallbackStatus, "pendingEvents" | "oldestPendingTime" | "lostEvents">;

function countsOf(seen: ObservedDelivery | undefined): Counts {
  if (seen === undefined) return {};
  const { pending: pendingEvents, oldestPendingTime, lostEvents } = seen;
  return {
    pendingEvents,
    ...(oldestPendingTime === null ? {} : { oldestPendingTime }),
    ...(lostEvents === 0 ? {} : { lostEvents }),
  };
}

function keptCounts(before: CallbackStatus | undefined): Counts {
  const { pendingEvents, oldestPendingTime, lostEvents } = before ?? {};
  return Object.fromEntries(
    Object.entries({ pendingEvents, oldestPendingTime, lostEvents }).filter(
      ([, value]) => value !== undefined,
    ),
  );
}

export function keep<K extends keyof PgEventSourceStatus>(
  field: K,
  previous: PgEventSourceStatus | undefined,
): Pick<PgEventSourceStatus, K> | Record<string, never> {
  return previous?.[field] === undefined
    ? {}
    : ({ [field]: previous[field] } as Pick<PgEventSourceStatus, K>);
}
