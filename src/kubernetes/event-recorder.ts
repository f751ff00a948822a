/**
 * Kubernetes events on our objects: the same reason and message raise the count of one event instead of
 * making more, and each object has a small budget (the limits of client-go's EventCorrelator).
 */
import { randomUUID } from "node:crypto";
import { isNotFound } from "./api-error.ts";
import type { KubernetesClient, KubernetesObject } from "./client.ts";
import { collectionPath, objectPath } from "./paths.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Events an object may have at once, and how fast that budget refills. */
const BURST = 25;
const PER_SECOND = 1 / 300;
/** Events remembered for counting; the oldest are forgotten. */
const REMEMBERED = 4096;

export interface RecordedEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  /** Nothing secret, nothing copied from referred objects. */
  readonly message: string;
}

export class EventRecorder {
  readonly #client: KubernetesClient;
  readonly #instance: string;
  readonly #budgets = new Map<string, TokenBucket>();
  readonly #known = new Map<string, { name: string; count: number }>();

  /** @param instance name of this process, shown as the event's source host */
  constructor(client: KubernetesClient, instance: string) {
    this.#client = client;
    this.#instance = instance;
  }

  /** Records an event. Never rejects: events are news, not state. */
  async record(object: KubernetesObject, event: RecordedEvent): Promise<void> {
    const { namespace = "default", uid = "" } = object.metadata;
    const key = JSON.stringify([uid, event.type, event.reason, event.message]);
    const known = this.#known.get(key);
    try {
      if (known !== undefined && (await this.#countUp(namespace, known))) return;
      if (!this.#budgetOf(uid).tryTake()) return;
      const name = `${object.metadata.name}.${randomUUID().slice(0, 16)}`;
      await this.#client.create(
        collectionPath("api/v1", namespace, "events"),
        this.#body(object, event, name, namespace),
      );
      this.#remember(key, name);
    } catch {
      // the namespace is being deleted, or the server is away: reconciling goes on without the news
    }
  }

  /** Forgets an object that is gone. */
  forget(uid: string): void {
    this.#budgets.delete(uid);
  }

  async #countUp(namespace: string, known: { name: string; count: number }): Promise<boolean> {
    known.count += 1;
    const body = { count: known.count, lastTimestamp: new Date().toISOString().replace(/\.\d+Z$/, "Z") };
    try {
      await this.#client.mergePatch(objectPath("api/v1", namespace, "events", known.name), body);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false; // events live for an hour
      throw error;
    }
  }

  #body(object: KubernetesObject, event: RecordedEvent, name: string, namespace: string): unknown {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const { apiVersion, kind, metadata } = object;
    return {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name, namespace },
      involvedObject: {
        apiVersion,
        kind,
        namespace,
        name: metadata.name,
        uid: metadata.uid,
        resourceVersion: metadata.resourceVersion,
      },
      type: event.type,
      reason: event.reason,
      message: event.message.slice(0, 1024),
      source: { component: "pg-events-operator", host: this.#instance },
      reportingComponent: "pgevents.dev/operator",
      reportingInstance: this.#instance,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
  }

  #remember(key: string, name: string): void {
    if (this.#known.size >= REMEMBERED) this.#known.delete(this.#known.keys().next().value as string);
    this.#known.set(key, { name, count: 1 });
  }

  #budgetOf(uid: string): TokenBucket {
    let budget = this.#budgets.get(uid);
    if (budget === undefined) {
      budget = new TokenBucket(PER_SECOND, BURST, () => performance.now());
      this.#budgets.set(uid, budget);
    }
    return budget;
  }
}
