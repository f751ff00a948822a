import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { KubeConfig } from "@kubernetes/client-node";
import { isConflict, isNotFound, KubernetesApiError } from "../../src/kubernetes/api-error.ts";
import {
  KubernetesClient,
  type KubernetesObject,
  loadKubeConfig,
  type RequestReport,
} from "../../src/kubernetes/client.ts";
import { collectionPath, objectPath } from "../../src/kubernetes/paths.ts";
import { type ApiProxy, refuse, startApiProxy } from "../support/api-proxy.ts";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";

interface ConfigMap extends KubernetesObject {
  readonly data?: Readonly<Record<string, string>>;
}

interface Scene {
  readonly client: KubernetesClient;
  readonly proxy: ApiProxy;
  readonly namespace: string;
  readonly reports: RequestReport[];
  readonly collection: string;
  /** Path of a ConfigMap. */
  readonly path: (name: string) => string;
}

async function scene(t: TestContext): Promise<Scene | null> {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const proxy = await startApiProxy(t, plane);
  const reports: RequestReport[] = [];
  const client = new KubernetesClient(proxy.config, (report) => reports.push(report));
  t.after(() => client.close());
  const namespace = await testNamespace(t, plane);
  const collection = collectionPath("api/v1", namespace, "configmaps");
  return { client, proxy, namespace, reports, collection, path: (name) => `${collection}/${name}` };
}

const configMap = (name: string, data: Record<string, string>) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name },
  data,
});

test("connections are kept: requests do not open one each", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  for (let round = 0; round < 20; round += 1) await s.client.get(s.collection);
  assert.equal(s.proxy.requests.length, 20);
  assert.ok(s.proxy.connections <= 2, `${s.proxy.connections} connections`); // a second when one is not free in time
});

test("create, read, merge, replace and delete", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.client.create(s.collection, configMap("m", { a: "1", b: "2" }));
  const merged = await s.client.mergePatch<ConfigMap>(s.path("m"), { data: { a: null, c: "3" } });
  assert.deepEqual(merged.data, { b: "2", c: "3" });
  const { resourceVersion } = merged.metadata;
  const body = { ...configMap("m", { d: "4" }), metadata: { name: "m", resourceVersion } };
  await s.client.replace(s.path("m"), body);
  assert.deepEqual((await s.client.get<ConfigMap>(s.path("m"))).data, { d: "4" });
  await assert.rejects(s.client.replace(s.path("m"), body), isConflict);
  await s.client.delete(s.path("m"));
  await assert.rejects(s.client.get(s.path("m")), isNotFound);
});

test("server-side apply: twice changes nothing, others' fields are kept, ours are won back", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const wanted = configMap("applied", { ours: "1" });
  const first = await s.client.apply<ConfigMap>(s.path("applied"), wanted, "us");
  const second = await s.client.apply<ConfigMap>(s.path("applied"), wanted, "us");
  assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  await s.client.mergePatch(s.path("applied"), { data: { ours: "stolen", theirs: "2" } });
  const third = await s.client.apply<ConfigMap>(s.path("applied"), wanted, "us");
  assert.deepEqual(third.data, { ours: "1", theirs: "2" });
});

test("an error says what the server said, and a report what was asked", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const missing = await s.client.get(s.path("missing")).catch((error: unknown) => error);
  assert.ok(missing instanceof KubernetesApiError);
  assert.equal(missing.status, 404);
  assert.equal(missing.reason, "NotFound");
  assert.match(missing.message, /configmaps "missing" not found/);
  const status = objectPath("apis/apps/v1", s.namespace, "deployments", "missing", "status");
  await assert.rejects(s.client.get(status), isNotFound);
  await s.client.get(`/api/v1/namespaces/${s.namespace}`);
  assert.deepEqual(s.reports, [
    { verb: "GET", resource: "configmaps", code: "404" },
    { verb: "GET", resource: "deployments/status", code: "404" },
    { verb: "GET", resource: "namespaces", code: "200" },
  ]);
});

describe("a request that meets", () => {
  type Fault = (proxy: ApiProxy, response: ServerResponse) => boolean;
  const passing: readonly [string, Fault][] = [
    ["429", (_proxy, response) => refuse(response, 429, { "retry-after": "0" })],
    ["500", (_proxy, response) => refuse(response, 500)],
    ["503", (_proxy, response) => refuse(response, 503)],
    [
      "a reset",
      (proxy) => {
        proxy.cut();
        return true;
      },
    ],
  ];
  for (const [name, fault] of passing) {
    test(`${name} is tried again when repeating it changes nothing more`, async (t) => {
      const s = await scene(t);
      if (s === null) return;
      s.proxy.intercept = (_request, response) => {
        s.proxy.intercept = null;
        return fault(s.proxy, response);
      };
      await s.client.apply(s.path("retried"), configMap("retried", {}), "us");
      assert.equal(s.proxy.requests.length, 2);
      assert.equal(s.reports.at(0)?.code, name === "a reset" ? "error" : name);
      assert.equal(s.reports.at(1)?.code, "201");
    });
  }

  test("500 again and again ends with that error", async (t) => {
    const s = await scene(t);
    if (s === null) return;
    s.proxy.intercept = (_request, response) => refuse(response, 500);
    await assert.rejects(s.client.get(s.collection), { name: "KubernetesApiError", status: 500 });
    assert.equal(s.proxy.requests.length, 4);
  });

  test("500 on a create is not repeated: it may have been done", async (t) => {
    const s = await scene(t);
    if (s === null) return;
    s.proxy.intercept = (_request, response) => refuse(response, 500);
    await assert.rejects(s.client.create(s.collection, configMap("once", {})), { status: 500 });
    assert.equal(s.proxy.requests.length, 1);
  });

  test("F9 Retry-After waits that long", async (t) => {
    const s = await scene(t);
    if (s === null) return;
    let refusedAtMs = 0;
    s.proxy.intercept = (_request, response) => {
      s.proxy.intercept = null;
      refusedAtMs = performance.now();
      return refuse(response, 429, { "retry-after": "2" });
    };
    await s.client.create(s.collection, configMap("later", {}));
    assert.equal(s.proxy.requests.length, 2);
    assert.ok(performance.now() - refusedAtMs >= 1990, "came back before it was asked to");
  });

  test("403 is an answer, not a failure to be repeated", async (t) => {
    const s = await scene(t);
    if (s === null) return;
    s.proxy.intercept = (_request, response) => refuse(response, 403);
    await assert.rejects(s.client.get(s.collection), { status: 403 });
    assert.equal(s.proxy.requests.length, 1);
  });

  test("no answer ends when its signal does", async (t) => {
    const s = await scene(t);
    if (s === null) return;
    const ending = new AbortController();
    s.proxy.intercept = () => {
      ending.abort();
      return true;
    };
    await assert.rejects(s.client.get(s.collection, { signal: ending.signal }), { name: "AbortError" });
    assert.equal(s.proxy.requests.length, 1);
  });
});

test("F11 a token that was rotated is read again when the server refuses the old one", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const directory = mkdtempSync(join(tmpdir(), "pg-events-token-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const tokenFile = join(directory, "token");
  const admin = loadKubeConfig(plane.kubeconfig);
  let loads = 0;
  const load = () => {
    loads += 1;
    const config = new KubeConfig();
    const cluster = admin.getCurrentCluster();
    assert.ok(cluster);
    // As loadFromCluster() makes it in a pod: the file is read at most once a minute.
    config.loadFromClusterAndUser(cluster, {
      name: "pod",
      authProvider: { name: "tokenFile", config: { tokenFile } },
    } as never);
    return config;
  };
  writeFileSync(tokenFile, "old");
  const client = new KubernetesClient(load);
  t.after(() => client.close());
  await assert.rejects(client.get("/api/v1/namespaces"), { status: 401 });
  assert.equal(loads, 2, "once more, then it gives up");
  writeFileSync(tokenFile, admin.getCurrentUser()?.token ?? "");
  assert.ok(await client.get("/api/v1/namespaces"));
});

test("only names go into paths", () => {
  assert.equal(
    objectPath("api/v1", "shop", "secrets", "db.main", "status"),
    "/api/v1/namespaces/shop/secrets/db.main/status",
  );
  assert.equal(collectionPath("api/v1", null, "pods"), "/api/v1/pods");
  for (const name of ["", "..", "a/b", "a..b", "A", "a?b", "-a", "a%2f", "x".repeat(254)]) {
    assert.throws(() => objectPath("api/v1", "shop", "secrets", name), RangeError, name);
    assert.throws(() => collectionPath("api/v1", name, "secrets"), RangeError, name);
  }
});
