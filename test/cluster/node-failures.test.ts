/** What fails in a cluster whose pods are real containers, and needs them to be shown; see installation.test.ts. */
import assert from "node:assert/strict";
import { IMAGES } from "../support/cluster/node/images.ts";
import { evict, killContainer, podsOf } from "../support/cluster/node/pods.ts";
import { clusterScene, WORKERS } from "../support/cluster/node/scene.ts";
import { NAMESPACE } from "../support/cluster/node/shop.ts";
import { eventually } from "../support/processes.ts";

const scene = clusterScene();

scene.test("an installation with two workers", async () => {
  await scene.release.install("test");
  await scene.applySource();
  await scene.scale(2);
});

scene.test("the kubelet crashes and comes back: containers run on, and deliver meanwhile", async () => {
  const { node, ledger } = scene;
  const before = await scene.workers();
  await node.killKubelet();
  await ledger.write(100);
  await ledger.settle();
  await node.startKubelet();
  await scene.scale(3);
  const after = await scene.workers();
  for (const { uid } of before) assert.equal(after.find((pod) => pod.uid === uid)?.restarts, 0);
});

scene.test("F54 pods are evicted: a worker is replaced, and the budget keeps one operator", async () => {
  const { node, release } = scene;
  const [worker] = await scene.workers();
  assert.ok(worker);
  await evict(node, NAMESPACE, worker.name);
  await scene.workersReady(3);
  const leader = await release.leader();
  await node.kubectl(["cordon", "node-1"]);
  await evict(node, release.namespace, leader.name);
  const [other] = (await release.operators()).filter(({ ready }) => ready);
  assert.ok(other);
  await assert.rejects(evict(node, release.namespace, other.name), /disruption budget/);
  await node.kubectl(["uncordon", "node-1"]);
  const leads = async () => (await release.leader()).name === other.name;
  await eventually(leads, { what: "the lead of the operator that was kept" });
  const ready = async () => (await release.operators()).filter((pod) => pod.ready).length === 2;
  await eventually(ready, { what: "two operators", timeoutMs: 60_000 });
});

scene.test("F43 the leading operator is killed, and the other one does its work", async () => {
  await killContainer(scene.node, await scene.release.leader());
  await scene.scale(2);
  await scene.ledger.write(50);
});

scene.test("F17 the database is killed under writes, and its pod deleted", async () => {
  const { node, shop, ledger } = scene;
  const [database] = await podsOf(node, NAMESPACE, "app=db");
  assert.ok(database);
  await killContainer(node, database);
  await ledger.write(50);
  await shop.kubectl("delete", "pod/db-0");
  await ledger.write(50);
});

scene.test(
  "F38 the workers' image is not to be had: it is told, nothing is lost, and they start when it is there",
  async () => {
    const { node, shop, ledger } = scene;
    await scene.scale(1);
    await node.ctr("images", "tag", IMAGES.pgEvents, IMAGES.nextPgEvents);
    await node.ctr("images", "remove", "--sync", IMAGES.pgEvents);
    await shop.kubectl("delete", "pods", "--selector", WORKERS);
    const waits = async () => (await scene.workers())[0]?.waiting === "ImagePullBackOff";
    await eventually(waits, { what: "a pod without its image", timeoutMs: 60_000 });
    await ledger.write(100);
    await scene.conditionMatches("Deployed", /"DeploymentUnavailable"/);
    await node.ctr("images", "tag", IMAGES.nextPgEvents, IMAGES.pgEvents);
    await scene.workersReady(1);
  },
);

scene.test(
  "F38 the quota refuses a worker: it is told, those that run go on, and it starts when there is room",
  async () => {
    const { shop, ledger } = scene;
    const pods = (await podsOf(scene.node, NAMESPACE, "")).length;
    const quota = {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "pods" },
      spec: { hard: { pods: `${pods}` } },
    };
    await shop.apply(quota);
    const counted = "--for=jsonpath={.status.used.pods}";
    await shop.kubectl("wait", "resourcequota/pods", `${counted}=${pods}`, "--timeout=30s");
    await shop.kubectl("scale", "pges/shop", "--replicas=2");
    await scene.conditionMatches("Deployed", /FailedCreate/);
    await ledger.write(50);
    await shop.kubectl("delete", "resourcequota/pods");
    await scene.workersReady(2);
  },
);
