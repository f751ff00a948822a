/**
 * Keeps a local copy of one resource by list and watch, for as long as the process runs: whatever
 * happens on the way (410, 429, 500, a cut or half-open connection) it lists again with backoff. Only
 * keys of changed objects are told; the reader takes the object from `store`.
 *
 *   list ─► watch ─ ends, or is silent for too long ─► watch again from the last version
 *    ▲        └─ 410, an error, or RELIST_MS over ─► list
 *    └─ failure: jittered backoff
 */
import { setTimeout as sleep } from "node:timers/promises";
import { KubernetesApiError } from "./api-error.ts";
import type { KubernetesClient, KubernetesObject } from "./client.ts";

/**
 * Short, as its end is the sign that a watch lives: bookmarks come once a minute, and two seconds before the end.
 * The next one goes on where it ended, at the price of one request.
 */
const WATCH_SECONDS = [30, 40] as const;
const SILENCE_MS = 50_000;
const RELIST_MS = 600_000;
const BACKOFF_MS = [800, 30_000] as const;
/** A watch that lived this long ends the backoff. */
const HEALTHY_WATCH_MS = 10_000;
const PAGE = 500;

export interface ListWatchReport {
  /** What happened: a list or a watch began, or failed. */
  readonly operation: "list" | "watch";
  readonly failed: boolean;
  /** Why it failed. */
  readonly error?: unknown;
}

export interface ListWatchOptions {
  readonly client: KubernetesClient;
  readonly path: string;
  readonly labelSelector?: string;
  /** Called with `namespace/name` for each object that was added, changed, replaced or deleted. Must not throw. */
  readonly onChange: (key: string) => void;
  readonly onReport?: (report: ListWatchReport) => void;
  /** Objects that a list found changed and that the watch had not told of. */
  readonly onMissed?: (count: number) => void;
  /** A watch without any line, bookmarks included, and without an end for this long is taken for dead. Default 50 s. */
  readonly silenceMs?: number;
  /** From one list to the next when nothing goes wrong, ± 10 %, and no less than a watch. Default 10 min. */
  readonly relistMs?: number;
}

export class ListWatch<T extends KubernetesObject> {
  readonly store = new Map<string, T>();
  readonly #options: ListWatchOptions;
  #synced = false;
  #lastActivityMs = performance.now();
  #failures = 0;

  constructor(options: ListWatchOptions) {
    this.#options = options;
  }

  /** The first list is done. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Monotonic time (performance.now) of the last sign of life from the API server. */
  get lastActivityMs(): number {
    return this.#lastActivityMs;
  }

  /** Takes over what a write gave back, unless the copy is as new, or of another object of that name. */
  update(written: T): void {
    const copy = this.store.get(keyOf(written));
    if (copy !== undefined && isOlder(copy, written)) this.store.set(keyOf(written), strip(written));
  }

  /** Runs until the signal; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const version = await this.#list(signal);
        await this.#watchFrom(version, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#failures += 1;
        const expired = error instanceof KubernetesApiError && error.status === 410;
        if (expired && this.#failures === 1) continue; // a version grew too old: no failure, unless it comes again
        const bound = Math.min(BACKOFF_MS[1], BACKOFF_MS[0] * 2 ** Math.min(this.#failures - 1, 30));
        await sleep(bound * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const found = new Map<string, T>();
    let version = "";
    let token: string | undefined;
    try {
      do {
        const query: Record<string, string> = { limit: String(PAGE), ...this.#selector() };
        if (token !== undefined) query.continue = token;
        const page = await this.#options.client.get<ListPage<T>>(this.#options.path, { query, signal });
        const { apiVersion, kind } = page;
        // Only the list says what its items are; a watch says it of each.
        const named = { apiVersion, kind: kind.replace(/List$/, "") };
        for (const item of page.items) found.set(keyOf(item), strip({ ...named, ...item }));
        version = page.metadata.resourceVersion;
        token = page.metadata.continue || undefined;
      } while (token !== undefined);
    } catch (error) {
      this.#options.onReport?.({ operation: "list", failed: true, error });
      throw error;
    }
    this.#options.onReport?.({ operation: "list", failed: false });
    this.#alive();
    this.#replace(found);
    this.#synced = true;
    return version;
  }

  /** Takes over a list, and tells of what differs from the copy. */
  #replace(found: ReadonlyMap<string, T>): void {
    const keys = new Set([...this.store.keys(), ...found.keys()]);
    let missed = 0;
    for (const key of keys) {
      const before = this.store.get(key);
      const now = found.get(key);
      if (
        before?.metadata.resourceVersion === now?.metadata.resourceVersion &&
        before?.metadata.uid === now?.metadata.uid
      )
        continue;
      if (now === undefined) this.store.delete(key);
      else this.store.set(key, now);
      missed += 1;
      this.#options.onChange(key);
    }
    if (this.#synced && missed > 0) this.#options.onMissed?.(missed);
  }

  async #watchFrom(version: string, signal: AbortSignal): Promise<void> {
    const relistAtMs =
      performance.now() + (this.#options.relistMs ?? RELIST_MS) * (0.9 + Math.random() * 0.2);
    let from = version;
    while (!signal.aborted && performance.now() < relistAtMs) {
      const startedMs = performance.now();
      const healthy = () => performance.now() - startedMs >= HEALTHY_WATCH_MS;
      try {
        from = await this.#watchOnce(from, signal);
      } finally {
        if (healthy()) this.#failures = 0;
      }
      if (!healthy()) await sleep(500 + Math.random() * 500, undefined, { signal }).catch(() => undefined); // closed early: no flood
    }
  }

  async #watchOnce(version: string, signal: AbortSignal): Promise<string> {
    const seconds = WATCH_SECONDS[0] + Math.floor(Math.random() * (WATCH_SECONDS[1] - WATCH_SECONDS[0]));
    const query = {
      resourceVersion: version,
      allowWatchBookmarks: "true",
      timeoutSeconds: String(seconds),
      ...this.#selector(),
    };
    const { silenceMs = SILENCE_MS } = this.#options;
    const silence = new AbortController();
    const ended = AbortSignal.any([signal, silence.signal]);
    let timer = setTimeout(() => silence.abort(), silenceMs);
    let last = version;
    try {
      const body = await this.#options.client.watch(this.#options.path, query, ended);
      this.#options.onReport?.({ operation: "watch", failed: false });
      this.#alive();
      for await (const line of linesOf(body)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), silenceMs);
        this.#alive();
        last = this.#take(line) ?? last;
      }
      return last;
    } catch (error) {
      if (silence.signal.aborted && !signal.aborted) return last; // half-open: watch anew from where we were
      this.#options.onReport?.({ operation: "watch", failed: true, error });
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @returns the version to go on from @throws KubernetesApiError for an ERROR event, 410 among them */
  #take(line: string): string | undefined {
    if (line === "") return undefined;
    const { type, object } = JSON.parse(line) as WatchLine<T>;
    if (type === "ERROR") {
      const { code = 500, reason = "Unknown" } = object as unknown as { code?: number; reason?: string };
      throw new KubernetesApiError(code, reason, "the watch ended with an error");
    }
    if (type !== "BOOKMARK") {
      const key = keyOf(object);
      const copy = this.store.get(key);
      // From before what a write gave back: it must not take that back.
      if (copy !== undefined && isOlder(object, copy)) return object.metadata.resourceVersion;
      if (type === "DELETED") this.store.delete(key);
      else this.store.set(key, strip(object));
      this.#options.onChange(key);
    }
    return object.metadata.resourceVersion;
  }

  #selector(): Record<string, string> {
    return this.#options.labelSelector === undefined ? {} : { labelSelector: this.#options.labelSelector };
  }

  #alive(): void {
    this.#lastActivityMs = performance.now();
  }
}

interface ListPage<T> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly T[];
}

interface WatchLine<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

/** The lines of a stream; throws when the stream breaks off with an error. */
async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

/** Versions of an object are numbers that grow: what etcd gives, and what the API server promises from Kubernetes 1.35 on. */
function isOlder({ metadata: one }: KubernetesObject, { metadata: other }: KubernetesObject): boolean {
  const versions = [one.resourceVersion, other.resourceVersion];
  if (one.uid !== other.uid || !versions.every((version) => /^\d+$/.test(version ?? ""))) return false;
  const [first = 0n, second = 0n] = versions.map((version) => BigInt(version ?? 0));
  return first < second;
}

/** `namespace/name` */
export function keyOf({ metadata }: KubernetesObject): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}

/** Without managedFields, which are most of an object's size (1,000 sources: 20 MiB with, 1.7 without). */
function strip<T extends KubernetesObject>(object: T): T {
  const { managedFields: _dropped, ...metadata } = object.metadata as T["metadata"] & {
    managedFields?: unknown;
  };
  return { ...object, metadata };
}
