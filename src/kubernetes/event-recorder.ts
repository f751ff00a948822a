/**
 * Kubernetes events on our objects: the same reason and message raise the count of one event instead of
 * making more, and each object has a small budget of writes (the limits of client-go's EventCorrelator).
 */
import { randomUUID } from "node:crypto";
import type { EventReason } from "../core/api/conditions.ts";
import { isNotFound } from "./api-error.ts";
import type { KubernetesClient, KubernetesObject } from "./client.ts";
import { collectionPath, objectPath } from "./paths.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Events an object may have at once, and how fast that budget refills. */
const BURST = 25;
const PER_SECOND = 1 / 300;
/** Events remembered for counting, and objects with a budget; the oldest are forgotten. */
const REMEMBERED = 4096;

export interface RecordedEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: EventReason;
  /** Nothing secret, nothing copied from referred objects. */
  readonly message: string;
}

interface Known {
  /** Null until the event is written. */
  name: string | null;
  count: number;
  written: Promise<void>;
}

export class EventRecorder {
  readonly #client: KubernetesClient;
  readonly #instance: string;
  readonly #budgets = new Map<string, TokenBucket>();
  /** Events of the last hours by what they say; the next write of one waits for the last. */
  readonly #known = new Map<string, Known>();

  /** @param instance name of this process, shown as the event's source host */
  constructor(client: KubernetesClient, instance: string) {
    this.#client = client;
    this.#instance = instance;
  }

  /** Records an event. Never rejects: events are news, not state. */
  record(object: KubernetesObject, event: RecordedEvent): Promise<void> {
    const { uid = "" } = object.metadata;
    if (!this.#budgetOf(uid).tryTake()) return Promise.resolve();
    const key = JSON.stringify([uid, event.type, event.reason, event.message]);
    const known: Known = this.#known.get(key) ?? { name: null, count: 0, written: Promise.resolve() };
    setLimited(this.#known, key, known);
    known.written = known.written
      .then(() => this.#write(object, event, known))
      // The namespace is being deleted, or the server is away: reconciling goes on without the news.
      .catch(() => undefined);
    return known.written;
  }

  async #write(object: KubernetesObject, event: RecordedEvent, known: Known): Promise<void> {
    const { namespace = "default", name } = object.metadata;
    if (known.name !== null && (await this.#countUp(namespace, known.name, known.count + 1))) {
      known.count += 1;
      return;
    }
    const eventName = `${name.slice(0, 200)}.${randomUUID()}`;
    const body = this.#body(object, event, eventName, namespace);
    await this.#client.create(collectionPath("api/v1", namespace, "events"), body);
    Object.assign(known, { name: eventName, count: 1 });
  }

  /** @returns false when the event is not there any more: they live for an hour */
  async #countUp(namespace: string, name: string, count: number): Promise<boolean> {
    try {
      await this.#client.mergePatch(objectPath("api/v1", namespace, "events", name), {
        count,
        lastTimestamp: timestamp(),
      });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  #body(object: KubernetesObject, event: RecordedEvent, name: string, namespace: string): unknown {
    const now = timestamp();
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

  #budgetOf(uid: string): TokenBucket {
    const budget = this.#budgets.get(uid) ?? new TokenBucket(PER_SECOND, BURST, () => performance.now());
    setLimited(this.#budgets, uid, budget);
    return budget;
  }
}

/** Puts a value at the end of a map; what was put longest ago makes room for it. */
function setLimited<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  if (map.size >= REMEMBERED) map.delete(map.keys().next().value as string);
  map.set(key, value);
}

/** A metav1.Time: whole seconds. */
function timestamp(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
