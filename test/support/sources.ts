/** PgEventSources in a real cluster: making them, and waiting for what becomes of them. */
import type { Condition } from "../../src/core/api/conditions.ts";
import type { PgEventSourceStatus } from "../../src/core/api/status.ts";
import type { DatabaseSettings } from "../../src/core/settings/database.ts";
import { type ClusterRequests, clusterRequests } from "./cluster-requests.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { TestEnd } from "./postgres.ts";
import { eventually } from "./processes.ts";

export interface LiveSource {
  metadata: {
    name: string;
    uid: string;
    generation: number;
    resourceVersion: string;
    finalizers?: string[];
    deletionTimestamp?: string;
  };
  // biome-ignore lint/suspicious/noExplicitAny: as the API server has it
  spec: any;
  status?: PgEventSourceStatus;
}

// biome-ignore lint/suspicious/noExplicitAny: of many kinds; each test knows what it looks at
type Body = any;

export interface Sources {
  readonly cluster: ClusterRequests;
  /** Creates or changes the connection Secret (or another one). */
  writeSecret(
    data: Readonly<Record<string, string>>,
    options?: { name?: string; labels?: Record<string, string> },
  ): Promise<void>;
  /** Creates or replaces a source `shop` with some fields of its spec replaced. */
  apply(
    spec?: Record<string, unknown>,
    name?: string,
    labels?: Readonly<Record<string, string>>,
  ): Promise<LiveSource>;
  get(name?: string): Promise<LiveSource | null>;
  patch(change: object, name?: string): Promise<void>;
  remove(name?: string): Promise<void>;
  /** Waits for a condition of a source to have a status, and a reason when given, at the newest generation. */
  waitFor(
    type: string,
    status: string,
    reason?: string,
    options?: { name?: string; timeoutMs?: number },
  ): Promise<Condition>;
  waitUntilGone(name?: string, timeoutMs?: number): Promise<void>;
  deployment(name?: string): Promise<Body | null>;
  /** `type reason: message` of each event on a source, oldest first. */
  events(name?: string): Promise<string[]>;
  /** Waits for one of these events. */
  waitForEvent(pattern: RegExp, name?: string): Promise<string>;
}

const GROUP = "/apis/pgevents.dev/v1alpha1";

/** What a Secret of CloudNativePG holds. */
export function secretData({
  host,
  port,
  database,
  user,
  password,
}: DatabaseSettings): Record<string, string> {
  return { host, port: String(port), dbname: database, username: user, password: password ?? "" };
}

/** Sources in a namespace. What is left of them after the test is freed of its finalizer. */
export async function sourcesIn(t: TestEnd, plane: ControlPlane, namespace: string): Promise<Sources> {
  const cluster = await clusterRequests(plane.kubeconfig);
  const path = (name: string) => `${GROUP}/namespaces/${namespace}/pgeventsources/${name}`;
  const find = async (url: string): Promise<Body | null> => {
    const { status, body } = await cluster.request("GET", url);
    return status === 404 ? null : body;
  };
  const must = async (method: string, url: string, body: unknown, type?: string): Promise<Body> => {
    const answer = await cluster.request(method, url, { body, ...(type === undefined ? {} : { type }) });
    if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.body?.message}`);
    return answer.body;
  };
  const apply = (url: string, body: object) =>
    must("PATCH", `${url}?fieldManager=test&force=true`, body, "application/apply-patch+yaml");
  const get = (name = "shop"): Promise<LiveSource | null> => find(path(name));
  t.after(async () => {
    const { items = [] } = (await find(`${GROUP}/namespaces/${namespace}/pgeventsources`)) ?? {};
    const free = async ({ metadata: { name } }: LiveSource) => {
      const { body } = await cluster.request("DELETE", path(name));
      if (body?.metadata?.finalizers === undefined) return; // it went at once
      await cluster.request("PATCH", path(name), {
        body: { metadata: { finalizers: null } },
        type: "application/merge-patch+json",
      });
    };
    await Promise.all((items as LiveSource[]).map(free));
    cluster.close();
  });
  const events = async (name = "shop"): Promise<string[]> => {
    const { items } = await find(
      `/api/v1/namespaces/${namespace}/events?fieldSelector=involvedObject.name=${name},involvedObject.kind=PgEventSource`,
    );
    return (items as Body[]).map(({ type, reason, message }) => `${type} ${reason}: ${message}`);
  };
  return {
    cluster,
    get,
    events,
    waitForEvent: (pattern, name) =>
      eventually(async () => (await events(name)).find((event) => pattern.test(event)), {
        what: `an event ${pattern}`,
      }),
    async writeSecret(data, { name = "shop-db", labels = {} } = {}) {
      const stringData = data;
      await apply(`/api/v1/namespaces/${namespace}/secrets/${name}`, {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name, namespace, labels },
        stringData,
      });
    },
    apply(spec = {}, name = "shop", labels = {}) {
      const complete = {
        database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" }, connectTimeoutSeconds: 2 },
        callbacks: [{ name: "orders", http: { uri: "http://127.0.0.1:9/events" } }],
        ...spec,
      };
      return apply(path(name), {
        apiVersion: "pgevents.dev/v1alpha1",
        kind: "PgEventSource",
        metadata: { name, namespace, labels },
        spec: complete,
      });
    },
    async patch(change, name = "shop") {
      await must("PATCH", path(name), change, "application/merge-patch+json");
    },
    async remove(name = "shop") {
      await must("DELETE", path(name), undefined);
    },
    waitFor(type, status, reason, { name = "shop", timeoutMs = 30_000 } = {}) {
      return eventually(
        async () => {
          const source = await get(name);
          const condition = source?.status?.conditions?.find((one) => one.type === type);
          const fits = condition?.status === status && (reason === undefined || condition.reason === reason);
          if (fits && condition.observedGeneration === source?.metadata.generation)
            return condition as Condition;
          throw new Error(
            `it is ${JSON.stringify(source?.status?.conditions?.map((one) => `${one.type} ${one.status} ${one.reason} ${one.message}`))}`,
          );
        },
        { what: `${type}=${status} ${reason ?? ""} of ${name}`, timeoutMs },
      );
    },
    async waitUntilGone(name = "shop", timeoutMs = 30_000) {
      await eventually(async () => (await get(name)) === null, { what: `the end of ${name}`, timeoutMs });
    },
    deployment: (name = "shop") => find(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`),
  };
}
