/**
 * Kubernetes events on our objects: the same reason and message raise the count of one event instead of
 * making more, many messages with one reason share an event that tells the latest, and each object has a small budget
 * of writes (the limits of client-go's EventCorrelator).
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
/** So many messages with one reason, no two of them this long apart (milliseconds), share an event from then on. */
const SIMILAR = 10;
const SIMILAR_MS = 600_000;
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
  /** What was said of an object with one reason. */
  readonly #said = new Map<string, { readonly messages: Set<string>; lastMs: number }>();

  /** @param instance name of this process, shown as the event's source host */
  constructor(client: KubernetesClient, instance: string) {
    this.#client = client;
    this.#instance = instance;
  }

  /** Records an event. Never rejects: events are news, not state. */
  record(object: KubernetesObject, event: RecordedEvent): Promise<void> {
    const { uid = "" } = object.metadata;
    if (!this.#budgetOf(uid).tryTake()) return Promise.resolve();
    const reason = JSON.stringify([uid, event.type, event.reason]);
    const combined = this.#saidMuch(reason, event.message);
    const key = combined ? reason : JSON.stringify([uid, event.type, event.reason, event.message]);
    const message = `${combined ? "(combined from similar events): " : ""}${event.message}`.slice(0, 1024);
    const known: Known = this.#known.get(key) ?? { name: null, count: 0, written: Promise.resolve() };
    setLimited(this.#known, key, known);
    known.written = known.written
      .then(() => this.#write(object, { ...event, message }, known))
      // The namespace is being deleted, or the server is away: reconciling goes on without the news.
      .catch(() => undefined);
    return known.written;
  }

  #saidMuch(reason: string, message: string): boolean {
    const nowMs = performance.now();
    let said = this.#said.get(reason);
    if (said === undefined || nowMs - said.lastMs > SIMILAR_MS) said = { messages: new Set(), lastMs: nowMs };
    said.lastMs = nowMs;
    setLimited(this.#said, reason, said);
    if (said.messages.has(message)) return false;
    if (said.messages.size >= SIMILAR) return true;
    said.messages.add(message);
    return false;
  }

  async #write(object: KubernetesObject, event: RecordedEvent, known: Known): Promise<void> {
    const { namespace = "default", name } = object.metadata;
    if (known.name !== null && (await this.#countUp(namespace, known, event))) {
      known.count += 1;
      return;
    }
    const eventName = `${name.slice(0, 200)}.${randomUUID()}`;
    const body = this.#body(object, event, eventName, namespace);
    await this.#client.create(collectionPath("api/v1", namespace, "events"), body);
    Object.assign(known, { name: eventName, count: 1 });
  }

  /** @returns false when the event is not there any more: they live for an hour */
  async #countUp(namespace: string, { name, count }: Known, { message }: RecordedEvent): Promise<boolean> {
    try {
      await this.#client.mergePatch(objectPath("api/v1", namespace, "events", name as string), {
        count: count + 1,
        message,
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
      message: event.message,
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
