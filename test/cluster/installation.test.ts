/**
 * The installation as a user does it, in a cluster whose pods are real containers: image, chart, a database
 * and a receiver in pods; and what happens to it afterwards. A ledger counts every change against every
 * delivery, after each step. The steps follow each other.
 */
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { nodeEnvironment } from "../support/cluster/node/enter.ts";
import { IMAGES } from "../support/cluster/node/images.ts";
import { keepLedger, type Ledger } from "../support/cluster/node/ledger.ts";
import { startNode, type TestNode } from "../support/cluster/node/node.ts";
import { evict, killContainer, podsOf } from "../support/cluster/node/pods.ts";
import { type Release, releaseOf } from "../support/cluster/node/release.ts";
import { report } from "../support/cluster/node/report.ts";
import { NAMESPACE, openShop, type Shop, shopSource, TOKEN } from "../support/cluster/node/shop.ts";
import { eventually } from "../support/processes.ts";

const WORKERS = "pgevents.dev/source=shop";
const environment = nodeEnvironment();
const skip = environment === null && "It runs in a node of its own: npm run test:cluster.";

describe("an installation", { skip }, () => {
  let node: TestNode;
  let shop: Shop;
  let release: Release;
  let ledger: Ledger;
  let repeats = 0;
  /** What is to be ended, the last one first. */
  const ends: (() => Promise<void> | void)[] = [];
  const end = { after: (work: () => Promise<void> | void) => void ends.unshift(work) };

  before(async () => {
    if (environment === null) return;
    node = await startNode(end, environment);
    shop = await openShop(node);
    release = releaseOf(node);
  });
  after(async () => {
    for (const work of ends) await work();
  });

  /** A step, after which nothing is missing; what the cluster looks like is printed when it fails. */
  const step = (title: string, work: (t: TestContext) => Promise<void>) =>
    test(title, async (t) => {
      try {
        await work(t);
        if (ledger === undefined) return;
        const { committed, ...delivered } = await ledger.settle();
        repeats = delivered.repeats;
        t.diagnostic(`${committed} changes, ${delivered.deliveries} deliveries, ${repeats} repeats`);
      } catch (error) {
        t.diagnostic(await report(node, [NAMESPACE, release.namespace]));
        throw error;
      }
    });
  const workers = () => podsOf(node, NAMESPACE, WORKERS);
  const workersReady = (count: number) =>
    shop.kubectl(
      "wait",
      "pges/shop",
      `--for=jsonpath={.status.worker.readyReplicas}=${count}`,
      "--timeout=90s",
    );
  const condition = (type: string) =>
    shop.kubectl("get", "pges/shop", `--output=jsonpath={.status.conditions[?(@.type=='${type}')]}`);

  step("helm install starts the operator", () => release.install("test"));

  step("helm test passes", () => release.check());

  step("G1 kubectl apply, and rows arrive through a Service by its name in the DNS", async () => {
    await shop.apply(...shopSource());
    await shop.kubectl("wait", "pges/shop", "--for=condition=Ready", "--timeout=60s");
    ledger = keepLedger(end, shop);
    await ledger.write(100);
    await ledger.settle();
    for (const { host, authorization } of shop.deliveries())
      assert.deepEqual([host, authorization], ["receiver.shop.svc", TOKEN]);
  });

  step("G5 three workers deliver each change once", async () => {
    await shop.kubectl("scale", "pges/shop", "--replicas=3");
    await workersReady(3);
    await ledger.write(200);
    assert.equal((await ledger.settle()).repeats, repeats);
  });

  step(
    "F52 G5 the chart is upgraded under writes: operator and workers are replaced, without a repeat",
    async () => {
      const before = await workers();
      await node.ctr("images", "tag", IMAGES.pgEvents, IMAGES.nextPgEvents);
      await release.upgrade("next");
      const image = "{.spec.template.spec.containers[0].image}";
      await shop.kubectl(
        "wait",
        "deployment/shop",
        `--for=jsonpath=${image}=${IMAGES.nextPgEvents}`,
        "--timeout=60s",
      );
      await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s");
      const uids = new Set((await workers()).map(({ uid }) => uid));
      assert.ok(before.every(({ uid }) => !uids.has(uid)));
      assert.equal((await ledger.settle()).repeats, repeats);
    },
  );

  step("F14 the password is changed in database and Secret", async () => {
    const before = await workers();
    await shop.setPassword("second-password-of-shop");
    await shop.apply(...shopSource("second-password-of-shop"));
    await eventually(
      async () => (await workers()).every(({ uid }) => before.every((pod) => pod.uid !== uid)),
      {
        what: "other workers",
        timeoutMs: 60_000,
      },
    );
    await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s");
    await ledger.write(50);
  });

  step("the kubelet crashes and comes back: containers run on, and deliver meanwhile", async () => {
    const before = await workers();
    await node.killKubelet();
    await ledger.write(100);
    await ledger.settle();
    await node.startKubelet();
    await shop.kubectl("scale", "pges/shop", "--replicas=2");
    await workersReady(2);
    for (const { uid, restarts } of await workers())
      assert.ok(
        before.some((pod) => pod.uid === uid && pod.restarts === restarts),
        "a worker was replaced",
      );
  });

  step("F54 pods are evicted: a worker is replaced, and the budget keeps one operator", async () => {
    const [worker] = await workers();
    assert.ok(worker);
    await evict(node, NAMESPACE, worker.name);
    await eventually(
      async () => (await workers()).filter(({ ready, uid }) => ready && uid !== worker.uid).length === 2,
      {
        what: "the worker's successor",
        timeoutMs: 60_000,
      },
    );
    const leader = await release.leader();
    await node.kubectl(["cordon", "node-1"]);
    await evict(node, release.namespace, leader.name);
    const other = await eventually(async () => (await release.operators()).find(({ ready }) => ready));
    await assert.rejects(evict(node, release.namespace, other.name), /disruption budget/);
    await node.kubectl(["uncordon", "node-1"]);
    await eventually(async () => (await release.leader()).name === other.name, {
      what: "the other operator's lead",
    });
    const ready = async () => (await release.operators()).filter((pod) => pod.ready).length === 2;
    await eventually(ready, { what: "two operators again", timeoutMs: 60_000 });
  });

  step("F43 the leading operator is killed, and its work is done by the other", async () => {
    const leader = await release.leader();
    await killContainer(node, leader);
    await shop.kubectl("scale", "pges/shop", "--replicas=3");
    await workersReady(3);
    await ledger.write(50);
  });

  step("F17 the database is killed under writes, then its pod deleted", async () => {
    const [database] = await podsOf(node, NAMESPACE, "app=db");
    assert.ok(database);
    await killContainer(node, database);
    await ledger.write(50);
    await shop.kubectl("delete", "pod/db-0");
    await ledger.write(50);
  });

  step(
    "F38 the workers' image is missing on the node: it is told, nothing is lost, and goes on when it is there",
    async () => {
      await shop.kubectl("scale", "pges/shop", "--replicas=1");
      await eventually(async () => (await workers()).length === 1, { what: "one worker", timeoutMs: 60_000 });
      await node.ctr("images", "remove", "--sync", IMAGES.nextPgEvents);
      await shop.kubectl("delete", "pods", "--selector", WORKERS);
      await eventually(async () => (await workers())[0]?.waiting === "ImagePullBackOff", {
        what: "a pod without its image",
        timeoutMs: 60_000,
      });
      await ledger.write(100);
      await eventually(async () => /"DeploymentUnavailable"/.test(await condition("Deployed")), {
        what: "the status",
        timeoutMs: 120_000,
      });
      await node.ctr("images", "tag", IMAGES.pgEvents, IMAGES.nextPgEvents);
      await workersReady(1);
    },
  );
});
