/**
 * The installation as a user does it, in a cluster whose pods are real containers: image, chart, a database
 * and a receiver in pods, up to the end of all of it. A ledger counts every change against every delivery,
 * after each step. The steps follow each other.
 */
import assert from "node:assert/strict";
import { createTopic, kafkaTo, topicMessages } from "../callbacks/kafka-endpoint.ts";
import { createStream, natsTo, storedMessages } from "../callbacks/nats-endpoint.ts";
import { kafkaServer } from "../support/brokers/kafka-server.ts";
import { natsServer } from "../support/brokers/nats-server.ts";
import { IMAGES } from "../support/cluster/node/images.ts";
import { clusterScene } from "../support/cluster/node/scene.ts";
import { TOKEN } from "../support/cluster/node/shop.ts";
import { eventually } from "../support/processes.ts";

const scene = clusterScene();

scene.test("helm install starts the operator, and helm test passes", async () => {
  await scene.release.install("test");
  await scene.release.check();
});

scene.test("G1 kubectl apply, and rows arrive through a Service by its name in the DNS", async () => {
  await scene.applySource();
  await scene.ledger.write(100);
  await scene.ledger.settle();
  for (const { host, authorization } of scene.shop.deliveries())
    assert.deepEqual([host, authorization], ["receiver.shop.svc", TOKEN]);
});

scene.test("G5 three workers deliver each change once", async () => {
  await scene.scale(3);
  await scene.ledger.write(200);
  assert.equal((await scene.ledger.settle()).repeats, 0);
});

scene.test(
  "F52 G5 the chart is upgraded under writes: operator and workers are replaced, nothing is repeated",
  async () => {
    const { node, shop, release, ledger } = scene;
    const before = await scene.workers();
    await node.ctr("images", "tag", IMAGES.pgEvents, IMAGES.nextPgEvents);
    await release.upgrade("next");
    const image = "{.spec.template.spec.containers[0].image}";
    const next = `--for=jsonpath=${image}=${IMAGES.nextPgEvents}`;
    await shop.kubectl("wait", "deployment/shop", next, "--timeout=60s");
    await shop.kubectl("rollout", "status", "deployment/shop", "--timeout=120s");
    const now = new Set((await scene.workers()).map(({ uid }) => uid));
    assert.ok(before.every(({ uid }) => !now.has(uid)));
    assert.equal((await ledger.settle()).repeats, scene.repeats);
  },
);

scene.test("F14 the password is changed in the database and in the Secret", async () => {
  const { shop, ledger } = scene;
  const before = new Set((await scene.workers()).map(({ uid }) => uid));
  await shop.setPassword("second-password-of-shop");
  await shop.apply(...shop.source());
  const replaced = async () => {
    const pods = await scene.workers();
    return pods.length === before.size && pods.every(({ uid, ready }) => ready && !before.has(uid));
  };
  await eventually(replaced, { timeoutMs: 90_000, what: "other workers" });
  await ledger.write(50);
});

scene.test(
  "F29 a namespace is deleted with the source in it, and the other source is not touched",
  async () => {
    const { node, shop } = scene;
    const inside = (...args: string[]) => node.kubectl([...args, "--namespace", "other"]);
    await shop.asSuperuser("create database other owner shop");
    await shop.asOwner("other", "create table notes (id integer primary key)");
    await node.kubectl(["create", "namespace", "other"]);
    await shop.applyIn("other", ...shop.source("other", [{ name: "log", stdout: {} }]));
    await inside("wait", "pges/shop", "--for=condition=Ready", "--timeout=60s");
    await shop.asOwner("other", "insert into notes values (4711)");
    const logged = async () => (await inside("logs", "deployment/shop")).includes('"key":[4711]');
    await eventually(logged, { what: "the event in the worker's output" });
    await node.kubectl(["delete", "namespace", "other", "--timeout=90s"]);
  },
);

scene.test("the image has the clients of NATS and Kafka", async (t) => {
  const { node, shop } = scene;
  const [nats, kafka] = [await natsServer(t, "", node.address), await kafkaServer(t, node.address)];
  await createStream(nats);
  const topic = await createTopic(kafka, "notes");
  await shop.asSuperuser("create database brokers owner shop");
  await shop.asOwner("brokers", "create table notes (id integer primary key)");
  await node.kubectl(["create", "namespace", "brokers"]);
  const callbacks = [
    { name: "stream", ...natsTo(nats) },
    { name: "topic", ...kafkaTo(kafka, topic, { compression: "Snappy" }) },
  ];
  await shop.applyIn("brokers", ...shop.source("brokers", callbacks));
  await node.kubectl(["wait", "pges/shop", "--namespace=brokers", "--for=condition=Ready", "--timeout=60s"]);
  await shop.asOwner("brokers", "insert into notes select generate_series(1, 50)");
  await eventually(async () => (await storedMessages(nats)).length === 50, {
    what: "the events in the stream",
  });
  await eventually(async () => (await topicMessages(kafka, topic)).length === 50, {
    what: "those in the topic",
  });
  await node.kubectl(["delete", "namespace", "brokers", "--timeout=90s"]);
});

scene.test("F31 helm uninstall leaves workers that deliver; installed again it takes them over", async () => {
  const { release, ledger } = scene;
  await scene.scale(1);
  const [worker] = await scene.workers();
  await release.uninstall();
  assert.deepEqual(await release.operators(), []);
  await ledger.write(100);
  await ledger.settle();
  await release.install("next");
  await scene.scale(2);
  assert.ok((await scene.workers()).some(({ uid }) => uid === worker?.uid));
  assert.equal((await ledger.settle()).repeats, scene.repeats);
});

scene.test("F27 the source is deleted: capture and workers go; made again it delivers", async () => {
  const { shop } = scene;
  await scene.closeLedger();
  await shop.kubectl("delete", "pges/shop", "--timeout=60s");
  await scene.workersReady(0);
  assert.deepEqual(await shop.captureLeft(), []);
  await shop.asOwner("shop", "delete from orders");
  await scene.applySource();
  await scene.ledger.write(50);
});

scene.test("without sources helm uninstall leaves nothing but the CRD", async () => {
  const { node, release, shop } = scene;
  await scene.closeLedger();
  await shop.kubectl("delete", "pges", "--all", "--timeout=60s");
  await release.uninstall();
  const everything =
    "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets";
  const names = async (kinds: string, ...args: string[]) =>
    (await node.kubectl(["get", kinds, "--output=name", ...args]))
      .split("\n")
      .filter((name) => name.includes("pg-events"));
  await eventually(async () => (await names(everything, "--namespace", release.namespace)).length === 0, {
    what: "the end of the release's objects",
  });
  assert.deepEqual(await names("clusterroles,clusterrolebindings"), []);
  const crds = await node.kubectl(["get", "crds", "--output=name"]);
  assert.match(crds, /pgeventsources\.pgevents\.dev/);
});
