/** Names that users build on: dashboards, alerts and scripts break with any of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CONDITION_TYPES, EVENT_REASONS, REASONS } from "../../src/core/api/conditions.ts";
import { OperatorMetrics } from "../../src/operator/metrics.ts";
import { observeProcess } from "../../src/operator/process-metrics.ts";
import { createRegistry } from "../../src/runtime/observability.ts";
import { WorkerMetrics } from "../../src/worker/metrics.ts";

/** Name → labels. */
const METRICS: Record<string, string> = {
  build_info: "version revision node_version",
  leader: "",
  reconcile_total: "controller result",
  reconcile_errors_total: "controller reason",
  reconcile_duration_seconds: "controller",
  reconcile_timeouts_total: "",
  workqueue_depth: "name",
  workqueue_adds_total: "name",
  workqueue_retries_total: "name",
  workqueue_queue_duration_seconds: "name",
  workqueue_work_duration_seconds: "name",
  workqueue_unfinished_work_seconds: "name",
  workqueue_longest_running_processor_seconds: "name",
  list_operations_total: "resource",
  list_operations_failed_total: "resource",
  watch_operations_total: "resource",
  watch_operations_failed_total: "resource",
  informer_synced: "resource",
  informer_last_activity_timestamp_seconds: "resource",
  relist_missed_events_total: "resource",
  api_requests_total: "verb resource code",
  source_condition: "source_namespace source type status",
  source_suspended: "source_namespace source",
  builds_total: "source_namespace source trigger result",
  build_duration_seconds: "",
  cleanups_total: "result",
  deployments_replaced_total: "",
  deliveries_total: "callback result",
  delivery_attempts_total: "callback code",
  delivery_duration_seconds: "callback",
  delivery_lag_seconds: "callback",
  pending_events: "callback",
  oldest_pending_event_age_seconds: "callback",
  inflight_deliveries: "callback",
  dead_letters_total: "callback",
  db_up: "",
  db_reconnects_total: "",
};

test("every metric that is promised is there, with its labels", () => {
  const registry = createRegistry("1", "0");
  new WorkerMetrics(registry);
  new OperatorMetrics(registry);
  observeProcess(registry, { copies: () => [], reconcilesSinceMs: () => [] });
  const found = Object.keys(METRICS).map((name) => {
    const metric = registry.getSingleMetric(`pgevents_${name}`) as unknown as { labelNames?: string[] };
    return [name, metric?.labelNames?.filter((label) => label !== "le").join(" ")];
  });
  assert.deepEqual(Object.fromEntries(found), METRICS);
});

test("every type and reason that is promised is there, once", () => {
  assert.deepEqual(Object.keys(CONDITION_TYPES), [
    "Ready",
    "CredentialsResolved",
    "DatabaseReachable",
    "Built",
    "CallbacksResolved",
    "Deployed",
    "Delivering",
  ]);
  const normal = `Built SchemaChanged DeploymentCreated DeploymentUpdated SecretRotated Suspended Resumed CleanedUp`;
  const warning = `SecretNotFound SecretInvalid SecretNotAllowed ConnectionFailed AuthenticationFailed PermissionDenied
    DatabaseReadOnly LockTimeout BuildFailed OwnershipConflict CallbackNotFound CallbackForbidden NameConflict
    DeploymentUnavailable CleanupBlocked CaptureObjectsOrphaned InvalidSpec TableNotFound`;
  const known = [...Object.keys(REASONS), ...Object.keys(EVENT_REASONS)];
  for (const reason of `${normal} ${warning}`.split(/\s+/))
    assert.equal(known.filter((one) => one === reason).length, 1, reason);
});
