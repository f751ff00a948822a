/**
 * The operator's process: keeps copies of sources and worker Deployments, queues the keys of what
 * changed, and reconciles them while it leads. Followers keep their copies warm and do nothing else.
 */
import type { PgEventSource } from "../core/api/source.ts";
import { MANAGED_BY } from "../core/reconcile/worker-deployment.ts";
import { REFUSED_LOGIN_MS } from "../core/settings/refused-login.ts";
import type { KubernetesApiError } from "../kubernetes/api-error.ts";
import type { KubernetesClient, KubernetesObject } from "../kubernetes/client.ts";
import { EventRecorder } from "../kubernetes/event-recorder.ts";
import type { LeaderElection } from "../kubernetes/leader-election.ts";
import { ListWatch, type ListWatchReport } from "../kubernetes/list-watch.ts";
import { collectionPath } from "../kubernetes/paths.ts";
import { ResourceNames } from "../kubernetes/resource-names.ts";
import { WorkQueue } from "../kubernetes/work-queue.ts";
import type { Logger } from "../runtime/log.ts";
import { Superseded } from "./build-progress.ts";
import type { OperatorMetrics } from "./metrics.ts";
import type { Readings } from "./process-metrics.ts";
import { DatabaseUnavailable, reconcile } from "./reconcile.ts";
import { DEPLOYMENTS_API, type OperatorOptions, SOURCES_API, type World } from "./world.ts";

const RECONCILE_TIMEOUT_MS = 120_000;
/** Milliseconds of the first and the longest wait after a reconcile that failed. */
const BACKOFF_MS = [1000, 300_000] as const;
/** A copy without any sign of life from the API server for this long is not to be trusted. */
const STALE_MS = 600_000;
const CONTROLLER = "pgeventsource";

export interface ControllerOptions extends OperatorOptions {
  /** Empty: all namespaces. */
  readonly namespaces: readonly string[];
  /** Of PgEventSources; absent: all of them. */
  readonly labelSelector?: string;
  readonly maxConcurrentReconciles: number;
  readonly instance: string;
}

export class Controller {
  readonly #log: Logger;
  readonly #metrics: OperatorMetrics;
  readonly #sources: ListWatch<KubernetesObject>[];
  readonly #deployments: ListWatch<KubernetesObject>[];
  readonly #queue: WorkQueue;
  readonly #stopped = new AbortController();
  readonly #world: World;
  /** Spec generation and annotations as last queued, to tell a user's change from our own status writes. */
  readonly #queued = new Map<string, string>();
  /** When each reconcile under way began. */
  readonly #running = new Map<string, number>();
  #epoch = 0;
  #leading = false;
  #ending = false;

  constructor(
    client: KubernetesClient,
    election: () => LeaderElection,
    options: ControllerOptions,
    metrics: OperatorMetrics,
    log: Logger,
  ) {
    this.#metrics = metrics;
    this.#log = log;
    const scopes = options.namespaces.length === 0 ? [null] : options.namespaces;
    const watching = (api: string, plural: string, onChange: (key: string) => void, labelSelector?: string) =>
      scopes.map(
        (namespace) =>
          new ListWatch({
            client,
            path: collectionPath(api, namespace, plural),
            onChange,
            onReport: (report) => this.#reported(plural, namespace, report),
            onMissed: (count) => metrics.missed(plural, count),
            ...(labelSelector === undefined ? {} : { labelSelector }),
          }),
      );
    this.#sources = watching(
      SOURCES_API,
      "pgeventsources",
      (key) => this.#sourceChanged(key),
      options.labelSelector,
    );
    this.#deployments = watching(
      DEPLOYMENTS_API,
      "deployments",
      (key) => this.#enqueue(key, false),
      `app.kubernetes.io/managed-by=${MANAGED_BY}`,
    );
    this.#queue = new WorkQueue({
      concurrency: options.maxConcurrentReconciles,
      backoffMs: BACKOFF_MS,
      handle: (key) => this.#handle(key),
      onFailure: (key, error) => this.#failed(key, error),
      onMeasure: (measure) => metrics.queue(measure),
    });
    this.#world = {
      client,
      recorder: new EventRecorder(client, options.instance),
      log,
      metrics,
      options,
      source: (key) => find(this.#sources, key),
      deployment: (key) => find(this.#deployments, key),
      remember: (written) => {
        for (const watch of this.#sources) watch.update(written);
      },
      applied: new Map(),
      written: new Map(),
      refusals: new Map(),
      plurals: new ResourceNames(client),
      epoch: () => this.#epoch,
      mayWrite: () => election().holdsSafely,
    };
  }

  /** For the metrics. */
  readings(): Readings {
    const copies = () => [
      ...this.#sources.map((watch) => copyOf("pgeventsources", watch)),
      ...this.#deployments.map((watch) => copyOf("deployments", watch)),
    ];
    return { copies, reconcilesSinceMs: () => [...this.#running.values()] };
  }

  /** Every copy is complete. */
  get synced(): boolean {
    return [...this.#sources, ...this.#deployments].every(({ synced }) => synced);
  }

  /** Some copy has not heard of the API server for too long. */
  get stale(): boolean {
    const nowMs = performance.now();
    return [...this.#sources, ...this.#deployments].some(
      ({ lastActivityMs }) => nowMs - lastActivityMs > STALE_MS,
    );
  }

  /** Keeps the copies until the signal. */
  async watch(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => {
      this.#ending = true;
    });
    await Promise.all([...this.#sources, ...this.#deployments].map((watch) => watch.run(signal)));
  }

  /** Begins to reconcile. */
  lead(epoch: number): void {
    this.#epoch = epoch;
    this.#leading = true;
    this.#metrics.leader.set(1);
    for (const watch of this.#sources) for (const key of watch.store.keys()) this.#queue.add(key);
  }

  /** Takes up nothing new, gives what is under way a chance to end, then breaks it off. */
  async stop(graceMs: number): Promise<void> {
    this.#leading = false;
    const timer = setTimeout(() => this.#stopped.abort(), graceMs);
    await this.#queue.stop();
    clearTimeout(timer);
    this.#metrics.leader.set(0);
  }

  #reported(resource: string, namespace: string | null, report: ListWatchReport): void {
    this.#metrics.listWatch(resource, report);
    const { failed, operation, error } = report;
    if (!failed) return;
    const { message, status } = error as KubernetesApiError;
    if (this.#ending || status === 410) return; // 410: the watch's version is too old, and a list follows
    this.#log.warn(
      { resource, namespace, operation, error: message },
      "API server not reached, trying again",
    );
  }

  /** A user's change goes before what comes from resyncs; our own status writes are no change at all. */
  #sourceChanged(key: string): void {
    const object = find(this.#sources, key);
    if (object === undefined) {
      this.#queued.delete(key);
      this.#queue.forget(key);
      this.#enqueue(key, false);
      return;
    }
    const { uid, generation, deletionTimestamp, annotations, finalizers } = object.metadata;
    const text = JSON.stringify([uid, generation, deletionTimestamp, annotations, finalizers]);
    if (this.#queued.get(key) === text) return;
    const listed = !this.synced; // of the first list, and so no change of now
    this.#queued.set(key, text);
    this.#enqueue(key, !listed);
  }

  #enqueue(key: string, urgent: boolean): void {
    if (this.#leading) this.#queue.add(key, urgent);
  }

  async #handle(key: string): Promise<number | null> {
    const startedMs = performance.now();
    this.#running.set(key, startedMs);
    const timeout = AbortSignal.timeout(RECONCILE_TIMEOUT_MS);
    const signal = AbortSignal.any([this.#stopped.signal, timeout]);
    try {
      const againMs = await reconcile(this.#world, key, signal);
      this.#metrics.reconciles.inc({
        controller: CONTROLLER,
        result: againMs === null ? "success" : "requeue_after",
      });
      return againMs;
    } catch (error) {
      if (error instanceof Superseded) {
        this.#metrics.reconciles.inc({ controller: CONTROLLER, result: "requeue" });
        return 0;
      }
      if (timeout.aborted) this.#metrics.reconcileTimeouts.inc();
      this.#metrics.reconciles.inc({ controller: CONTROLLER, result: "error" });
      throw error;
    } finally {
      this.#running.delete(key);
      this.#metrics.reconcileSeconds.observe(
        { controller: CONTROLLER },
        (performance.now() - startedMs) / 1000,
      );
    }
  }

  #failed(key: string, error: unknown): number | null {
    const { name, reason, message, code } = error as {
      name?: string;
      reason?: string;
      message?: string;
      code?: string;
    };
    this.#metrics.reconcileErrors.inc({ controller: CONTROLLER, reason: reason ?? name ?? "Error" });
    this.#log.warn({ source: key, reason, code, error: message }, "reconcile failed, trying again");
    const refused = error instanceof DatabaseUnavailable && error.reason === "AuthenticationFailed";
    return refused ? REFUSED_LOGIN_MS : null;
  }
}

function copyOf(resource: string, { synced, lastActivityMs }: ListWatch<KubernetesObject>) {
  return { resource, synced, lastActivityMs };
}

function find(
  watches: readonly ListWatch<KubernetesObject>[],
  key: string,
): (KubernetesObject & Partial<PgEventSource>) | undefined {
  for (const { store } of watches) {
    const object = store.get(key);
    if (object !== undefined) return object as KubernetesObject & Partial<PgEventSource>;
  }
  return undefined;
}
