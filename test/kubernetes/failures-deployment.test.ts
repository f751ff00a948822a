import assert from "node:assert/strict";
import { test } from "node:test";
import { environmentOf } from "../support/deployments.ts";
import { startKubelet } from "../support/kubelet.ts";
import { scrape } from "../support/operator.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";

const suite = operatorSuite();
/** What is promised for healing. */
const HEALED = { timeoutMs: 10_000 };

test("F34 foreign edits are healed, what others added is kept", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply({ worker: { nodeSelector: { disk: "ssd" } } });
  await scene.waitFor("Built", "True");
  const first = await eventually(() => scene.deployment());
  const path = `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`;
  const edit = async (change: object) => {
    const { status, body } = await scene.cluster.request("PATCH", path, {
      body: change,
      type: "application/strategic-merge-patch+json",
    });
    assert.equal(status, 200, body.message);
  };
  await edit({
    metadata: {
      annotations: { note: "mine" },
      labels: { "app.kubernetes.io/managed-by": "me", team: "data" },
    },
    spec: {
      replicas: 5,
      template: {
        spec: {
          containers: [
            {
              name: "worker",
              image: "other",
              env: [
                { name: "PG_EVENTS_LOG_LEVEL", value: "Debug" },
                { name: "ADDED", value: "1" },
              ],
            },
          ],
        },
      },
    },
  });
  const healed = await eventually(async () => {
    const live = await scene.deployment();
    return (
      live.spec.replicas === 1 &&
      live.metadata.labels["app.kubernetes.io/managed-by"] === "pgevents-operator" &&
      live
    );
  }, HEALED);
  const container = healed.spec.template.spec.containers[0];
  assert.equal(container.image, first.spec.template.spec.containers[0].image);
  assert.equal(environmentOf(healed).PG_EVENTS_LOG_LEVEL, "Info");
  assert.equal(environmentOf(healed).ADDED, "1");
  assert.equal(healed.metadata.annotations.note, "mine");
  assert.equal(healed.metadata.labels.team, "data");
  await scene.waitForEvent(/^Normal DeploymentUpdated: /);

  await scene.patch({ spec: { worker: { nodeSelector: null } } });
  await eventually(async () => (await scene.deployment()).spec.template.spec.nodeSelector === undefined, {
    ...HEALED,
    what: "no node selector",
  });
});

test("F35 a Deployment that is deleted is made again", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  const first = await eventually(() => scene.deployment());
  await scene.cluster.request("DELETE", `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`);
  await eventually(async () => {
    const live = await scene.deployment();
    return live !== null && live.metadata.uid !== first.metadata.uid;
  }, HEALED);
});

test("a Deployment of somebody else with the same name is not touched", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  const template = {
    metadata: { labels: { app: "x" } },
    spec: { containers: [{ name: "x", image: "x" }] },
  };
  const foreign = {
    metadata: { name: "shop" },
    spec: { replicas: 0, selector: { matchLabels: { app: "x" } }, template },
  };
  const made = await scene.cluster.request(
    "POST",
    `/apis/apps/v1/namespaces/${scene.namespace}/deployments`,
    { body: foreign },
  );
  assert.equal(made.status, 201);
  await scene.apply();
  await scene.waitFor("Deployed", "False", "NameConflict");
  assert.equal((await scene.deployment()).metadata.generation, made.body.metadata.generation);
  await scene.cluster.request("DELETE", `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`);
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating");
});

test("F38 the API server's refusal is told", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply({ worker: { tolerations: [{ operator: "Sometimes" }] } });
  const { message } = await scene.waitFor("Deployed", "False", "DeploymentFailed");
  assert.match(message, /tolerations/);
  await scene.apply();
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating");
});

test("F38 pods that the quota refuses are told with the Deployment's reason, and when they may be", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  const quota = `/api/v1/namespaces/${scene.namespace}/resourcequotas`;
  const body = { metadata: { name: "none" }, spec: { hard: { pods: "0" } } };
  assert.equal((await scene.cluster.request("POST", quota, { body })).status, 201);
  await scene.apply();
  const { message } = await scene.waitFor("Deployed", "False", "DeploymentUnavailable");
  assert.match(message, /FailedCreate/);
  await startKubelet(t, scene.plane, scene.namespace);
  await scene.cluster.request("DELETE", `${quota}/none`);
  await scene.patch({ spec: { worker: { logLevel: "Debug" } } }); // the ReplicaSet's own retries may take a minute
  await scene.waitFor("Deployed", "True", "Available", { timeoutMs: 90_000 });
});

test("F55 worker pods pass the restricted Pod Security Standard, and hold no token of the API", async (t) => {
  const scene = await suite.scene(t, { "pod-security.kubernetes.io/enforce": "restricted" });
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  const pods = await eventually(
    async () => {
      const { body } = await scene.cluster.request("GET", `/api/v1/namespaces/${scene.namespace}/pods`);
      return body.items.length > 0 && body.items;
    },
    { what: "a pod that the admission let through" },
  );
  for (const { spec } of pods) {
    assert.equal(spec.automountServiceAccountToken, false);
    assert.doesNotMatch(JSON.stringify(spec.volumes), /serviceAccountToken/);
  }
});

test("F36 the scale subresource is what scales: by hand, by an autoscaler, and a manifest without replicas leaves it", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  const source = `/apis/pgevents.dev/v1alpha1/namespaces/${scene.namespace}/pgeventsources/shop`;
  const replicas = async () => (await scene.deployment())?.spec.replicas;
  await eventually(async () => (await scene.get())?.status?.worker?.selector, { what: "the selector" });
  const scale = await scene.cluster.request("GET", `${source}/scale`);
  assert.deepEqual(scale.body.spec, { replicas: 1 });
  assert.equal(scale.body.status.selector, "app.kubernetes.io/name=pgevents-worker,pgevents.dev/source=shop");
  const byHand = await scene.cluster.request("PUT", `${source}/scale`, {
    body: { ...scale.body, spec: { replicas: 2 } },
  });
  assert.equal(byHand.status, 200, byHand.body.message);
  await eventually(async () => (await replicas()) === 2, { ...HEALED, what: "2 replicas" });

  const autoscaler = {
    metadata: { name: "shop" },
    spec: {
      scaleTargetRef: { apiVersion: "pgevents.dev/v1alpha1", kind: "PgEventSource", name: "shop" },
      minReplicas: 3,
      maxReplicas: 4,
    },
  };
  const path = `/apis/autoscaling/v2/namespaces/${scene.namespace}/horizontalpodautoscalers`;
  assert.equal((await scene.cluster.request("POST", path, { body: autoscaler })).status, 201);
  await eventually(async () => (await replicas()) === 3, { what: "3 replicas", timeoutMs: 60_000 });
  await scene.apply({ worker: { logLevel: "Debug" } });
  await eventually(async () => environmentOf(await scene.deployment()).PG_EVENTS_LOG_LEVEL === "Debug");
  assert.equal(await replicas(), 3);
});

test("F37 a selector of another version makes the Deployment anew, once", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  const { metadata, spec } = await eventually(() => scene.deployment());
  const replaced = async () =>
    (await scrape(scene.operator.metricsUrl)).get("pgevents_deployments_replaced_total") ?? 0;
  const before = await replaced();
  await scene.patch({ metadata: { annotations: { "pgevents.dev/reconciliation": "disabled" } } });
  await scene.waitFor("Ready", "Unknown", "ReconciliationDisabled");
  const path = `/apis/apps/v1/namespaces/${scene.namespace}/deployments`;
  await scene.cluster.request("DELETE", `${path}/shop`);
  const older = { matchLabels: { ...spec.selector.matchLabels, "app.kubernetes.io/component": "worker" } };
  const { name, labels, ownerReferences } = metadata;
  const made = await scene.cluster.request("POST", path, {
    body: { metadata: { name, labels, ownerReferences }, spec: { ...spec, selector: older } },
  });
  assert.equal(made.status, 201, made.body.message);
  await scene.patch({ metadata: { annotations: { "pgevents.dev/reconciliation": null } } });
  const { uid } = await eventually(async () => {
    const live = await scene.deployment();
    return (
      live !== null &&
      live.spec.selector.matchLabels["app.kubernetes.io/component"] === undefined &&
      live.metadata
    );
  });
  await scene.askToLook();
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating");
  assert.equal((await scene.deployment()).metadata.uid, uid);
  assert.equal(await replaced(), before + 1);
});

test("F39 G1 while a new pod does not get ready the old one serves; F38 a pod that fails is told, and its recovery", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  const receiver = await startReceiver(t, { host: reachableAddress() });
  await scene.connect();
  const callbacks = [{ name: "orders", http: { uri: `${receiver.url}/events` } }];
  await scene.apply({ callbacks });
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  const [old] = kubelet.pods();

  await scene.apply({ callbacks, worker: { logLevel: "Debug" } });
  const fresh = await eventually(() =>
    kubelet.pods().find(({ name, process }) => name !== old?.name && process?.pid),
  );
  fresh.process?.kill("SIGSTOP");
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating");
  await scene.database.query("insert into public.orders values (1, 1)");
  await receiver.waitFor(1);
  assert.equal(old?.process?.exitCode, null);
  fresh.process?.kill("SIGCONT");
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  await eventually(() => kubelet.pods().length === 1, { what: "the end of the old pod", timeoutMs: 40_000 });

  fresh.process?.kill("SIGSTOP");
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating", { timeoutMs: 60_000 });
  fresh.process?.kill("SIGKILL");
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  assert.equal(fresh.restarts, 1);
});
