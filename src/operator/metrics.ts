/** The operator's metrics (docs/reference/metrics.md). Series of a source end with it. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { PgEventSourceStatus } from "../core/api/status.ts";
import type { RequestReport } from "../kubernetes/client.ts";
import type { ListWatchReport } from "../kubernetes/list-watch.ts";
import type { QueueMeasure } from "../kubernetes/work-queue.ts";

const SECONDS = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120];
const SOURCE_LABELS = ["source_namespace", "source"];
const QUEUE = { name: "pgeventsource" };

/** Why something was built. */
const BUILD_TRIGGERS = ["spec", "upgrade", "schema", "drift"] as const;
export type BuildTrigger = (typeof BUILD_TRIGGERS)[number];

export class OperatorMetrics {
  readonly leader: Gauge;
  readonly reconciles: Counter;
  readonly reconcileErrors: Counter;
  readonly reconcileSeconds: Histogram;
  readonly reconcileTimeouts: Counter;
  readonly builds: Counter;
  readonly buildSeconds: Histogram;
  readonly cleanups: Counter;
  readonly deploymentsReplaced: Counter;
  readonly #requests: Counter;
  readonly #condition: Gauge;
  readonly #suspended: Gauge;
  readonly #lists: Counter;
  readonly #watches: Counter;
  readonly #failedLists: Counter;
  readonly #failedWatches: Counter;
  readonly #missed: Counter;
  readonly #depth: Gauge;
  readonly #adds: Counter;
  readonly #retries: Counter;
  readonly #queueSeconds: Histogram;
  readonly #workSeconds: Histogram;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = (name: string, help: string, labelNames: string[] = []) =>
      new Counter({ name, help, labelNames, registers });
    const gauge = (name: string, help: string, labelNames: string[] = []) =>
      new Gauge({ name, help, labelNames, registers });
    const histogram = (name: string, help: string, labelNames: string[] = []) =>
      new Histogram({ name, help, labelNames, buckets: SECONDS, registers });
    this.leader = gauge("pgevents_leader", "1 while this operator leads.");
    this.reconciles = counter(
      "pgevents_reconcile_total",
      "Reconciles, by result: success, requeue_after (looked at again by time), requeue (the source was changed meanwhile) or error.",
      ["controller", "result"],
    );
    this.reconcileErrors = counter("pgevents_reconcile_errors_total", "Reconciles that failed, by reason.", [
      "controller",
      "reason",
    ]);
    this.reconcileSeconds = histogram("pgevents_reconcile_duration_seconds", "Time of one reconcile.", [
      "controller",
    ]);
    this.reconcileTimeouts = counter("pgevents_reconcile_timeouts_total", "Reconciles that were cut off.");
    this.builds = counter(
      "pgevents_builds_total",
      "Builds that changed a database or failed, by what called for them: spec, upgrade (of pg-events), schema (tables have changed) or drift (others have changed capture).",
      [...SOURCE_LABELS, "trigger", "result"],
    );
    this.buildSeconds = histogram(
      "pgevents_build_duration_seconds",
      "Time of a build that changed something.",
    );
    this.#suspended = gauge("pgevents_source_suspended", "1 while the source is suspended.", SOURCE_LABELS);
    this.cleanups = counter("pgevents_cleanups_total", "Deleted sources: cleaned, retained or orphaned.", [
      "result",
    ]);
    this.deploymentsReplaced = counter(
      "pgevents_deployments_replaced_total",
      "Worker Deployments that were deleted and made anew, as a field had changed that cannot be changed.",
    );
    this.#requests = counter("pgevents_api_requests_total", "Requests to the API server.", [
      "verb",
      "resource",
      "code",
    ]);
    this.#condition = gauge("pgevents_source_condition", "1 for the status that a condition has.", [
      ...SOURCE_LABELS,
      "type",
      "status",
    ]);
    this.#lists = counter("pgevents_list_operations_total", "Lists of a resource.", ["resource"]);
    this.#failedLists = counter("pgevents_list_operations_failed_total", "Lists that failed.", ["resource"]);
    this.#watches = counter("pgevents_watch_operations_total", "Watches of a resource.", ["resource"]);
    this.#failedWatches = counter("pgevents_watch_operations_failed_total", "Watches that failed.", [
      "resource",
    ]);
    this.#missed = counter("pgevents_relist_missed_events_total", "Changes that only a list found.", [
      "resource",
    ]);
    this.#depth = gauge("pgevents_workqueue_depth", "Sources that wait to be reconciled.", ["name"]);
    this.#adds = counter("pgevents_workqueue_adds_total", "Additions to the queue.", ["name"]);
    this.#retries = counter("pgevents_workqueue_retries_total", "Retries after failures.", ["name"]);
    this.#queueSeconds = histogram("pgevents_workqueue_queue_duration_seconds", "Time in the queue.", [
      "name",
    ]);
    this.#workSeconds = histogram("pgevents_workqueue_work_duration_seconds", "Time being worked on.", [
      "name",
    ]);
    this.leader.set(0);
  }

  requested({ verb, resource, code }: RequestReport): void {
    this.#requests.inc({ verb, resource, code });
  }

  listWatch(resource: string, { operation, failed }: ListWatchReport): void {
    const [total, failures] =
      operation === "list" ? [this.#lists, this.#failedLists] : [this.#watches, this.#failedWatches];
    total.inc({ resource });
    if (failed) failures.inc({ resource });
  }

  missed(resource: string, count: number): void {
    this.#missed.inc({ resource }, count);
  }

  queue(measure: QueueMeasure): void {
    this.#depth.set(QUEUE, measure.depth);
    if (measure.added) this.#adds.inc(QUEUE);
    if (measure.retried) this.#retries.inc(QUEUE);
    if (measure.queuedSeconds !== undefined) this.#queueSeconds.observe(QUEUE, measure.queuedSeconds);
    if (measure.workedSeconds !== undefined) this.#workSeconds.observe(QUEUE, measure.workedSeconds);
  }

  suspended(namespace: string, source: string, suspended: boolean): void {
    this.#suspended.set({ source_namespace: namespace, source }, suspended ? 1 : 0);
  }

  conditions(namespace: string, source: string, status: PgEventSourceStatus): void {
    for (const { type, status: value } of status.conditions ?? []) {
      for (const one of ["True", "False", "Unknown"]) {
        this.#condition.set(
          { source_namespace: namespace, source, type, status: one },
          one === value ? 1 : 0,
        );
      }
    }
  }

  /** Ends the series of a source that is gone. */
  forget(namespace: string, source: string, types: readonly string[]): void {
    for (const type of types) {
      for (const status of ["True", "False", "Unknown"])
        this.#condition.remove({ source_namespace: namespace, source, type, status });
    }
    this.#suspended.remove({ source_namespace: namespace, source });
    for (const trigger of BUILD_TRIGGERS) {
      for (const result of ["changed", "failed"]) {
        this.builds.remove({ source_namespace: namespace, source, trigger, result });
      }
    }
  }
}
