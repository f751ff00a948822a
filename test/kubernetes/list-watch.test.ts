import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { describe, type TestContext, test } from "node:test";
import type { KubeConfig } from "@kubernetes/client-node";
import { KubernetesClient, type KubernetesObject, loadKubeConfig } from "../../src/kubernetes/client.ts";
import { ListWatch, type ListWatchOptions, type ListWatchReport } from "../../src/kubernetes/list-watch.ts";
import { type ApiProxy, isWatch, refuse, startApiProxy } from "../support/api-proxy.ts";
import {
  type ControlPlane,
  startControlPlane,
  testNamespace,
  useControlPlane,
} from "../support/control-plane.ts";
import { eventually } from "../support/processes.ts";

interface ConfigMap extends KubernetesObject {
  readonly data?: Readonly<Record<string, string>>;
}

type Settings = Partial<Pick<ListWatchOptions, "labelSelector" | "silenceMs" | "relistMs">>;

interface Watching {
  readonly watch: ListWatch<ConfigMap>;
  /** Keys told of so far, without the namespace. */
  readonly told: string[];
  readonly reports: ListWatchReport[];
  readonly missed: number[];
  /** The value of a ConfigMap in the copy. */
  value(name: string): string | undefined;
  stop(): Promise<void>;
}

interface Scene {
  readonly plane: ControlPlane;
  readonly namespace: string;
  /** Writes past what the watch goes through. */
  put(name: string, value: string, labels?: Record<string, string>): Promise<ConfigMap>;
  remove(name: string): Promise<void>;
  /** Watches the ConfigMaps of the namespace, and waits for the first list. */
  watching(config: () => KubeConfig, settings?: Settings): Promise<Watching>;
}

async function sceneOn(t: TestContext, plane: ControlPlane): Promise<Scene> {
  const namespace = await testNamespace(t, plane);
  const direct = new KubernetesClient(() => loadKubeConfig(plane.kubeconfig));
  t.after(() => direct.close());
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const put = (name: string, value: string, labels: Record<string, string> = {}) => {
    const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels }, data: { value } };
    return direct.apply<ConfigMap>(`${path}/${name}`, body, "test");
  };
  return {
    plane,
    namespace,
    put,
    remove: async (name) => void (await direct.delete(`${path}/${name}`)),
    async watching(config, settings = {}) {
      const client = new KubernetesClient(config);
      const [told, reports, missed]: [string[], ListWatchReport[], number[]] = [[], [], []];
      const watch = new ListWatch<ConfigMap>({
        client,
        path,
        onChange: (key) => told.push(key.replace(`${namespace}/`, "")),
        onReport: (report) => reports.push(report),
        onMissed: (count) => missed.push(count),
        ...settings,
      });
      const ending = new AbortController();
      const running = watch.run(ending.signal);
      const stop = async () => {
        ending.abort();
        await running;
        await client.close();
      };
      t.after(stop);
      await eventually(
        () => watch.synced && reports.some(({ operation, failed }) => operation === "watch" && !failed),
      );
      const value = (name: string) => watch.store.get(`${namespace}/${name}`)?.data?.value;
      return { watch, told, reports, missed, value, stop };
    },
  };
}

async function scene(t: TestContext): Promise<(Scene & { proxy: ApiProxy }) | null> {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  return { ...(await sceneOn(t, plane)), proxy: await startApiProxy(t, plane) };
}

test("the copy follows what is added, changed and deleted", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.put("before", "1");
  const { watch, told, value } = await s.watching(s.proxy.config);
  assert.equal(value("before"), "1");
  const kinds = () => [...watch.store.values()].map(({ apiVersion, kind }) => `${apiVersion} ${kind}`);
  assert.deepEqual([...new Set(kinds())], ["v1 ConfigMap"], "as a watch has it");
  assert.ok(told.includes("before"));
  await s.put("added", "1");
  await eventually(() => value("added") === "1");
  await s.put("added", "2");
  await eventually(() => value("added") === "2");
  await s.remove("before");
  await eventually(() => !watch.store.has(`${s.namespace}/before`));
  assert.deepEqual(
    told.filter((name) => name === "added" || name === "before"),
    ["before", "added", "added", "before"],
  );
  assert.ok(!JSON.stringify([...watch.store.values()]).includes("managedFields"));
  assert.equal(s.proxy.requests.length, 2, "one list and one watch");
});

test("what a label selector leaves out is not copied; what loses the label goes", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.put("mine", "1", { team: "data" });
  await s.put("other", "1");
  const { watch, told } = await s.watching(s.proxy.config, { labelSelector: "team=data" });
  await s.put("late", "1", { team: "data" });
  await eventually(() => watch.store.size === 2);
  await s.put("mine", "1", { team: "none" });
  await eventually(() => watch.store.size === 1);
  assert.deepEqual(told, ["mine", "late", "mine"]);
});

test("a list of many pages is complete", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const names = Array.from({ length: 7 }, (_, index) => `page-${index}`);
  for (const name of names) await s.put(name, "1");
  s.proxy.intercept = (request) => {
    request.url = request.url?.replace("limit=500", "limit=3") ?? "";
    return false;
  };
  const { told } = await s.watching(s.proxy.config);
  assert.deepEqual(told.filter((name) => name.startsWith("page-")).sort(), names);
  assert.ok(s.proxy.requests.filter((request) => request.includes("continue=")).length >= 2);
});

describe("it survives", () => {
  type Fault = (response: ServerResponse) => boolean;
  const faults: Readonly<Record<string, Fault>> = {
    "429": (response) => refuse(response, 429),
    "500": (response) => refuse(response, 500),
    "403": (response) => refuse(response, 403),
    "401": (response) => refuse(response, 401),
    "410": (response) => refuse(response, 410),
    "a reset": (response) => {
      response.destroy();
      return true;
    },
    "half a line": (response) => {
      response.writeHead(200, { "content-type": "application/json" }).end('{"type":"ADDED","object":{"meta');
      return true;
    },
    "an ERROR event": (response) => {
      const event = { type: "ERROR", object: { kind: "Status", code: 500, reason: "InternalError" } };
      response.writeHead(200, { "content-type": "application/json" }).end(`${JSON.stringify(event)}\n`);
      return true;
    },
    "something else than JSON": (response) => {
      response.writeHead(200, { "content-type": "text/html" }).end("<html>\nnot here\n");
      return true;
    },
  };
  for (const [name, fault] of Object.entries(faults)) {
    test(`F2 F3 ${name}, on a watch and on a list`, async (t) => {
      const s = await scene(t);
      if (s === null) return;
      const { value, reports } = await s.watching(s.proxy.config);
      const met = { watch: 0, list: 0 };
      s.proxy.intercept = (request, response) => {
        const operation = isWatch(request) ? "watch" : "list";
        met[operation] += 1;
        return met[operation] === 1 && fault(response);
      };
      s.proxy.cut();
      await s.put("after", name);
      await eventually(() => value("after") === name && met.list > 1 && met.watch > 1, { timeoutMs: 30_000 });
      assert.ok(reports.some(({ failed }) => failed));
      await s.put("after", "at last");
      await eventually(() => value("after") === "at last");
      assert.equal(s.proxy.mostWatches, 1, "never more than one watch");
    });
  }
});

test("F2 F6 a version that the server has forgotten leads to a list, and no change is lost", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.put("changed", "1");
  await s.put("deleted", "1");
  await s.put("recreated", "1");
  const { watch, told, value, reports, missed } = await s.watching(s.proxy.config);
  const { uid } = watch.store.get(`${s.namespace}/recreated`)?.metadata ?? {};
  await eventually(() => s.proxy.openWatches > 0, { what: "the first watch" }); // the next one is to be refused, not cut
  let expired = false;
  s.proxy.intercept = (request) => {
    if (!isWatch(request) || expired) return false;
    request.url = request.url?.replace(/resourceVersion=\d+/, "resourceVersion=1") ?? "";
    expired = true;
    return false;
  };
  s.proxy.cut();
  told.length = 0;
  await s.put("changed", "2");
  await s.remove("deleted");
  await s.remove("recreated");
  await s.put("recreated", "1");
  await eventually(() => expired && value("changed") === "2" && !watch.store.has(`${s.namespace}/deleted`));
  await eventually(() => watch.store.get(`${s.namespace}/recreated`)?.metadata.uid !== uid);
  for (const name of ["changed", "deleted", "recreated"]) assert.ok(told.includes(name), name);
  await eventually(() => reports.some(({ error }) => (error as { status?: number })?.status === 410));
  assert.ok(missed.length > 0);
});

test("F4 a connection that says nothing any more is given up", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  s.proxy.intercept = (request, response) => {
    if (!isWatch(request)) return false;
    s.proxy.intercept = null;
    response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
    return true; // and never a line
  };
  const { value, reports } = await s.watching(s.proxy.config, { silenceMs: 1000 });
  await s.put("after", "1");
  await eventually(() => value("after") === "1");
  assert.equal(reports.filter(({ operation }) => operation === "list").length, 1, "no list is needed");
});

test("F5 a watch goes on where the one before ended, and tells nothing twice", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const { told } = await s.watching(s.proxy.config, { silenceMs: 700 });
  const { resourceVersion } = (await s.put("once", "1")).metadata;
  await eventually(() => told.includes("once"));
  const watchesFrom = () =>
    s.proxy.requests.flatMap((request) =>
      request.includes("watch=") ? [Number(/resourceVersion=(\d+)/.exec(request)?.[1])] : [],
    );
  const before = watchesFrom().length;
  await eventually(() => watchesFrom().length >= before + 2);
  assert.ok((watchesFrom().at(-1) as number) >= Number(resourceVersion));
  assert.deepEqual(
    told.filter((name) => name === "once"),
    ["once"],
  );
});

test("F7 what a write gave back is the copy at once, and what the watch tells late does not take it back", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.put("one", "1");
  let silent = true;
  s.proxy.intercept = (request, response) => {
    if (!isWatch(request) || !silent) return false;
    response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
    return true;
  };
  const { value, told, watch } = await s.watching(s.proxy.config);
  await s.put("one", "2");
  watch.update(await s.put("one", "3"));
  assert.equal(value("one"), "3");
  const ours = () => told.filter((name) => name === "one" || name === "end");
  assert.deepEqual(ours(), ["one"]);
  silent = false;
  s.proxy.endWatches();
  await s.put("end", "1");
  await eventually(() => value("end") === "1");
  assert.equal(value("one"), "3");
  assert.deepEqual(ours(), ["one", "one", "end"], "the second value is passed over");
});

test("a list from time to time finds what a watch did not tell, and counts it", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  s.proxy.intercept = (request, response) => {
    if (!isWatch(request)) return false;
    response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
    return true;
  };
  const { value, missed } = await s.watching(s.proxy.config, { silenceMs: 500, relistMs: 1000 });
  await s.put("unseen", "1");
  await eventually(() => value("unseen") === "1");
  assert.deepEqual(missed, [1]);
});

test("a watch that ends at once again and again does not become a flood", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  s.proxy.intercept = (request, response) => {
    if (!isWatch(request)) return false;
    response.writeHead(200, { "content-type": "application/json" }).end();
    return true;
  };
  await s.watching(s.proxy.config);
  const startedMs = performance.now();
  const before = s.proxy.requests.length;
  await eventually(() => s.proxy.requests.length >= before + 4);
  assert.ok(performance.now() - startedMs >= 1400, "four watches within 1.4 seconds");
});

test("when it is stopped nothing is left open", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const watching = await s.watching(s.proxy.config);
  assert.equal(s.proxy.openWatches, 1);
  await watching.stop();
  await eventually(() => s.proxy.openWatches === 0);
  const { length } = watching.told;
  await s.put("after", "1");
  assert.equal(watching.told.length, length);
});

test("F1 F4 the API server is killed and comes back, and freezes and goes on", async (t) => {
  if ((await useControlPlane(t)) === null) return;
  const plane = await startControlPlane();
  const s = await sceneOn(t, plane);
  const { watch, value, reports } = await s.watching(() => loadKubeConfig(plane.kubeconfig), {
    silenceMs: 5000,
  });
  t.after(() => plane.stop()); // last: what the lines above end speaks to it
  await s.put("kept", "1");
  await eventually(() => value("kept") === "1");
  const { uid } = watch.store.get(`${s.namespace}/kept`)?.metadata ?? {};

  await plane.stopApiServer("SIGKILL");
  await eventually(() => reports.filter(({ failed }) => failed).length >= 2, { what: "attempts meanwhile" });
  assert.equal(value("kept"), "1", "the copy stays");
  await plane.startApiServer();
  await s.remove("kept");
  await s.put("kept", "2");
  await eventually(() => value("kept") === "2", { timeoutMs: 60_000 });
  assert.notEqual(watch.store.get(`${s.namespace}/kept`)?.metadata.uid, uid);

  await eventually(() => reports.at(-1)?.operation === "watch" && !reports.at(-1)?.failed);
  const quietSinceMs = watch.lastActivityMs;
  await plane.stopApiServer("SIGSTOP");
  const watches = reports.length;
  await eventually(() => performance.now() - quietSinceMs > 6000, { what: "the watch to be given up" });
  await plane.startApiServer();
  await s.put("kept", "3");
  await eventually(() => value("kept") === "3", { timeoutMs: 60_000 });
  assert.ok(reports.length > watches);
  assert.ok(watch.lastActivityMs > quietSinceMs);
});
