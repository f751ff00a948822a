/**
 * Requests to the API server as plain JSON on fixed paths. Configuration and credentials come from
 * `@kubernetes/client-node`; the connections are our own and kept (the package makes a new TLS
 * connection for each call, has no time limits and no retry). Objects are never read, changed and put
 * back: everything we own is written by server-side apply, which keeps what others own.
 */
import type { RequestOptions } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, request } from "undici";
import { KubernetesApiError } from "./api-error.ts";
import { TokenBucket } from "./token-bucket.ts";

const REQUESTS_PER_SECOND = 20;
const BURST = 40;
const REQUEST_TIMEOUT_MS = 15_000;
/** Attempts of a request that changes nothing when it is repeated. */
const ATTEMPTS = 4;
const RETRY_BASE_MS = 200;
/** The API server itself ends a connection after 90 s without use. */
const IDLE_CONNECTION_MS = 60_000;

export type { KubeConfig };

export interface KubernetesObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly generation?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
    readonly deletionTimestamp?: string;
    readonly creationTimestamp?: string;
    readonly ownerReferences?: readonly {
      readonly uid: string;
      readonly name: string;
      readonly kind: string;
      readonly controller?: boolean;
    }[];
  };
}

export interface RequestReport {
  readonly verb: string;
  readonly resource: string;
  /** HTTP status, or `error` when there was no answer. */
  readonly code: string;
}

export interface CallOptions {
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
  /** Does not wait for its turn under the limit on requests: for what must not be late. */
  readonly urgent?: boolean;
}

export type Verb = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export class KubernetesClient {
  readonly #load: () => KubeConfig;
  readonly #onRequest: (report: RequestReport) => void;
  readonly #bucket = new TokenBucket(REQUESTS_PER_SECOND, BURST, () => performance.now());
  #config: KubeConfig;
  #agent: { readonly key: string; readonly agent: Agent } | null = null;

  /** @param load reads the configuration; called again when the server refuses our credentials */
  constructor(load: () => KubeConfig, onRequest: (report: RequestReport) => void = () => undefined) {
    this.#load = load;
    this.#config = load();
    this.#onRequest = onRequest;
  }

  get<T>(path: string, options: CallOptions = {}): Promise<T> {
    return this.#call<T>("GET", path, options);
  }

  create<T>(path: string, body: unknown, options: CallOptions = {}): Promise<T> {
    return this.#call<T>("POST", path, { ...options, body });
  }

  /** Replaces an object at the resourceVersion in its body. */
  replace<T>(path: string, body: unknown, options: CallOptions = {}): Promise<T> {
    return this.#call<T>("PUT", path, { ...options, body });
  }

  /** Server-side apply: what this field manager wants, others' fields are kept. */
  apply<T>(path: string, body: unknown, fieldManager: string, options: CallOptions = {}): Promise<T> {
    const query = { ...options.query, fieldManager, force: "true" };
    return this.#call<T>("PATCH", path, {
      ...options,
      query,
      body,
      contentType: "application/apply-patch+yaml",
    });
  }

  mergePatch<T>(path: string, body: unknown, options: CallOptions = {}): Promise<T> {
    return this.#call<T>("PATCH", path, { ...options, body, contentType: "application/merge-patch+json" });
  }

  delete(path: string, options: CallOptions = {}): Promise<unknown> {
    return this.#call("DELETE", path, options);
  }

  /** Opens a watch: the answer's body, to be read line by line. @throws KubernetesApiError */
  async watch(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData["body"]> {
    const response = await this.#send("GET", path, { query: { ...query, watch: "true" }, signal }, 0);
    this.#onRequest({ verb: "WATCH", resource: resourceOf(path), code: String(response.statusCode) });
    if (response.statusCode !== 200) throw await errorOf(response, path);
    return response.body;
  }

  async close(): Promise<void> {
    await this.#agent?.agent.destroy();
  }

  async #call<T>(verb: Verb, path: string, options: CallOptions): Promise<T> {
    const repeatable = verb !== "POST" || path.endsWith("/events");
    let reloaded = false;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#once<T>(verb, path, options);
      } catch (error) {
        if (options.signal?.aborted || !(error instanceof KubernetesApiError)) throw error;
        if (error.status === 401 && !reloaded) {
          reloaded = true; // the token may have been rotated
          this.#config = this.#load();
          continue;
        }
        const passing = error.status === 0 || error.status === 429 || error.status >= 500;
        if (!passing || (!repeatable && error.status !== 429) || attempt >= ATTEMPTS) throw error;
        await sleep(Math.max(error.retryAfterMs, Math.random() * RETRY_BASE_MS * 2 ** attempt), undefined, {
          signal: options.signal,
        });
      }
    }
  }

  async #once<T>(verb: Verb, path: string, options: CallOptions): Promise<T> {
    const waitMs = options.urgent === true ? 0 : this.#bucket.take();
    if (waitMs > 0) await sleep(waitMs, undefined, { signal: options.signal });
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
    const resource = resourceOf(path);
    try {
      const response = await this.#send(verb, path, { ...options, signal }, REQUEST_TIMEOUT_MS);
      this.#onRequest({ verb, resource, code: String(response.statusCode) });
      if (response.statusCode >= 300) throw await errorOf(response, path);
      return (await response.body.json()) as T;
    } catch (error) {
      if (error instanceof KubernetesApiError || options.signal?.aborted) throw error;
      this.#onRequest({ verb, resource, code: "error" });
      throw new KubernetesApiError(
        0,
        "Unreachable",
        `${verb} ${path}: no answer from the API server (${codeOf(error)})`,
      );
    }
  }

  async #send(
    verb: Verb,
    path: string,
    options: CallOptions,
    timeoutMs: number,
  ): Promise<Dispatcher.ResponseData> {
    const credentials: RequestOptions = { headers: {} };
    await this.#config.applyToHTTPSOptions(credentials);
    const url = new URL((this.#config.getCurrentCluster()?.server ?? "").replace(/\/$/, "") + path);
    for (const [name, value] of Object.entries(options.query ?? {})) url.searchParams.set(name, value);
    const headers: Record<string, string> = {
      accept: "application/json",
      "user-agent": "pg-events",
      ...(credentials.headers as Record<string, string>),
    };
    if (options.body !== undefined) headers["content-type"] = options.contentType ?? "application/json";
    return request(url, {
      method: verb,
      headers,
      body: options.body === undefined ? null : JSON.stringify(options.body),
      dispatcher: this.#dispatcher(credentials),
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      signal: options.signal ?? null,
    });
  }

  /** One pool of connections for as long as the certificates stay the same. */
  #dispatcher({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions): Agent {
    const tls = { ca, cert, key, rejectUnauthorized, servername };
    const fingerprint = JSON.stringify(tls, (_name, value) =>
      Buffer.isBuffer(value) ? value.toString("base64") : value,
    );
    if (this.#agent?.key !== fingerprint) {
      const defined = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
      void this.#agent?.agent.close(); // what is under way on the old connections may end
      this.#agent = {
        key: fingerprint,
        agent: new Agent({
          connect: { ...defined, timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 30_000 },
          keepAliveTimeout: IDLE_CONNECTION_MS,
          allowH2: false,
        }),
      };
    }
    return this.#agent.agent;
  }
}

/** Loads the configuration: the file given, else KUBECONFIG, the home directory, or the pod's service account. */
export function loadKubeConfig(file?: string): KubeConfig {
  const config = new KubeConfig();
  if (file === undefined) config.loadFromDefault();
  else config.loadFromFile(file);
  return config;
}

async function errorOf(response: Dispatcher.ResponseData, path: string): Promise<KubernetesApiError> {
  const text = await response.body.text().catch(() => "");
  const { reason, message } = statusOf(text);
  const seconds = Number(response.headers["retry-after"]);
  const retryAfterMs = Number.isFinite(seconds) ? Math.min(seconds * 1000, 60_000) : 0;
  return new KubernetesApiError(
    response.statusCode,
    reason ?? "Unknown",
    message ?? `${path}: HTTP ${response.statusCode}`,
    retryAfterMs,
  );
}

function statusOf(text: string): { reason?: string; message?: string } {
  try {
    return JSON.parse(text) as { reason?: string; message?: string };
  } catch {
    return {};
  }
}

function codeOf(error: unknown): string {
  const { code, name } = error as { code?: string; name?: string };
  return code ?? name ?? "unknown";
}

/** The resource of an API path, for metrics: `deployments`, `pgeventsources/status`. */
function resourceOf(path: string): string {
  const parts =
    path
      .split("?")[0]
      ?.split("/")
      .filter((part) => part !== "") ?? [];
  const rest = parts.slice(parts[0] === "api" ? 2 : 3);
  const scoped = rest[0] === "namespaces" && rest.length > 2 ? rest.slice(2) : rest;
  return scoped.length > 2 ? `${scoped[0]}/${scoped[2]}` : (scoped[0] ?? "unknown");
}
