import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { clusterRequests } from "../support/cluster-requests.ts";
import {
  helm,
  kubectl,
  serviceAccountKubeconfig,
  startControlPlane,
  testNamespace,
  useControlPlane,
} from "../support/control-plane.ts";

test("what kubectl applies can be read back", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const namespace = await testNamespace(t, plane);
  const input = JSON.stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "settings", namespace },
    data: { colour: "green" },
  });
  await kubectl(plane, ["apply", "-f", "-"], { input });
  assert.equal(
    await kubectl(plane, ["get", "configmap", "settings", "-n", namespace, "-o", "jsonpath={.data.colour}"]),
    "green",
  );
});

test("a ServiceAccount may do what RBAC grants it and nothing else", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const namespace = await testNamespace(t, plane);
  await kubectl(plane, ["create", "role", "reader", "--verb=get", "--resource=configmaps", "-n", namespace]);
  await kubectl(plane, [
    "create",
    "rolebinding",
    "reader",
    "--role=reader",
    `--serviceaccount=${namespace}:default`,
    "-n",
    namespace,
  ]);
  const kubeconfig = await serviceAccountKubeconfig(plane, namespace, "default");
  await kubectl(plane, ["create", "configmap", "settings", "-n", namespace]);
  assert.match(
    await kubectl(plane, ["get", "configmap", "settings", "-o", "name"], { kubeconfig }),
    /settings/,
  );
  await assert.rejects(kubectl(plane, ["get", "secrets"], { kubeconfig }), /Forbidden/);
  await assert.rejects(kubectl(plane, ["delete", "configmap", "settings"], { kubeconfig }), /Forbidden/);
});

test("the API server goes and comes back with its data; stopping leaves nothing", async (t) => {
  if ((await useControlPlane(t)) === null) return;
  const plane = await startControlPlane();
  t.after(() => plane.stop());
  const cluster = await clusterRequests(plane.kubeconfig);
  t.after(() => cluster.close());
  await cluster.request("POST", "/api/v1/namespaces", { body: { metadata: { name: "kept" } } });
  await plane.stopApiServer();
  await assert.rejects(cluster.request("GET", "/readyz"));
  await plane.startApiServer();
  assert.equal((await cluster.request("GET", "/api/v1/namespaces/kept")).status, 200);
  await plane.stop();
  assert.equal(existsSync(plane.directory), false);
  await assert.rejects(cluster.request("GET", "/readyz"));
});

test("helm is there", async () => {
  assert.match(await helm(["version", "--short"]), /^v\d/);
});
