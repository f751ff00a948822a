import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { environmentOf } from "../support/deployments.ts";
import { startKubelet } from "../support/kubelet.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";
import { applyObject } from "../support/server-dry-run.ts";

const WAREHOUSE = "pg-events-test-warehouse";
/** The operator may read what its ClusterRole lets it; the role of Knative's name is made by the test. */
const suite = operatorSuite({
  values: { callbacks: { namespaces: [WAREHOUSE], addressableClusterRole: "pg-events-test-addressables" } },
});

const GROUP = "testing.pgevents.dev";
const ADDRESSABLES = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: `channels.${GROUP}` },
  spec: {
    group: GROUP,
    scope: "Namespaced",
    names: { plural: "channels", singular: "channel", kind: "Channel" },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};

const make = async ({ cluster }: Scene, object: object) =>
  assert.equal(await applyObject(cluster, object as never, false), null);

const service = (namespace: string, port: number, appProtocol?: string) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "stock", namespace },
  spec: { ports: [{ port, ...(appProtocol === undefined ? {} : { appProtocol }) }] },
});

const referring = (ref: object) => ({ callbacks: [{ name: "orders", http: { ref } }] });
const uriOf = async (scene: Scene) => {
  const deployment = await scene.deployment();
  const [callback] = JSON.parse(environmentOf(deployment).PG_EVENTS_SOURCE as string).spec.callbacks;
  return callback.suspend ? "suspended" : callback.http.uri;
};
const becomes = (scene: Scene, uri: string) =>
  eventually(async () => (await uriOf(scene)) === uri, { what: uri });

async function built(t: TestContext, ref: object): Promise<Scene | null> {
  const scene = await suite.scene(t);
  if (scene === null) return null;
  await scene.connect();
  await scene.apply(referring(ref));
  await scene.waitFor("Built", "True");
  await eventually(() => scene.deployment());
  return scene;
}

test("F40 a Service that is missing is told; its address is used once it is there, and kept when it goes", async (t) => {
  const scene = await built(t, { name: "stock", port: 8080, path: "/events?of=shop" });
  if (scene === null) return;
  const { namespace } = scene;
  const missing = await scene.waitFor("CallbacksResolved", "False", "CallbackNotFound");
  assert.match(
    missing.message,
    new RegExp(`^Callback orders: Service stock in namespace ${namespace} does not exist`),
  );
  assert.equal(await uriOf(scene), "suspended");
  await make(scene, service(namespace, 80));
  await scene.askToLook();
  await eventually(async () =>
    /has no port 8080, but 80/.test(
      (await scene.waitFor("CallbacksResolved", "False", "CallbackNotFound")).message,
    ),
  );
  await make(scene, service(namespace, 8080));
  await scene.askToLook();
  await scene.waitFor("CallbacksResolved", "True", "Resolved");
  const address = `http://stock.${namespace}.svc:8080/events?of=shop`;
  await becomes(scene, address);
  assert.equal((await scene.get())?.status?.callbacks?.[0]?.uri, address);
  await scene.cluster.request("DELETE", `/api/v1/namespaces/${namespace}/services/stock`);
  await scene.askToLook();
  await scene.waitFor("CallbacksResolved", "False", "CallbackNotFound");
  assert.equal(await uriOf(scene), address, "the workers keep what they have");
  await make(scene, service(namespace, 8443, "https"));
  await scene.apply(referring({ name: "stock", port: 8443 }));
  await becomes(scene, `https://stock.${namespace}.svc:8443/`);
});

test("F40 an object with an address in its status is followed; none yet, none of the kind and no right are told", async (t) => {
  const ref = { apiVersion: `${GROUP}/v1`, kind: "Channel", name: "orders" };
  const scene = await built(t, ref);
  if (scene === null) return;
  t.after(() =>
    scene.cluster
      .request("DELETE", `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/channels.${GROUP}`)
      .then(() => undefined),
  );
  const told = (reason: string, message: RegExp) =>
    eventually(
      async () => {
        await scene.askToLook();
        return message.test(
          (await scene.waitFor("CallbacksResolved", "False", reason, { timeoutMs: 5000 })).message,
        );
      },
      { what: `${message}`, timeoutMs: 30_000 },
    );
  await told("CallbackNotFound", /the API server knows no Channel of testing\.pgevents\.dev\/v1/);
  await make(scene, ADDRESSABLES);
  const path = `/apis/${GROUP}/v1/namespaces/${scene.namespace}/channels`;
  await eventually(async () => (await scene.cluster.request("GET", path)).status === 200);
  await told("CallbackForbidden", /the operator may not get Channel orders/);
  await make(scene, {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: "pg-events-test-addressables" },
    rules: [{ apiGroups: [GROUP], resources: ["channels"], verbs: ["get"] }],
  });
  t.after(() =>
    scene.cluster
      .request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles/pg-events-test-addressables")
      .then(() => undefined),
  );
  await told("CallbackNotFound", /Channel orders .* does not exist/);
  const become = async (status: object) => {
    const { name } = ref;
    const metadata = { name, namespace: scene.namespace };
    const body = { apiVersion: ref.apiVersion, kind: ref.kind, metadata, status };
    const answer = await scene.cluster.request("PATCH", `${path}/${name}?fieldManager=test&force=true`, {
      body,
      type: "application/apply-patch+yaml",
    });
    assert.ok(answer.status < 300, answer.body.message);
  };
  await become({});
  await told("CallbackNotFound", /has no address in its status yet/);
  await become({ address: { url: "ftp://nowhere/" } });
  await told("CallbackNotFound", /is no http or https URL/);
  for (const url of ["http://orders-kn-channel.shop.svc.cluster.local/", "https://orders.example.com/in"]) {
    await become({ address: { url } });
    await scene.askToLook();
    await becomes(scene, url);
  }
  await scene.waitFor("CallbacksResolved", "True", "Resolved");
});

test("F40 another namespace has to be allowed", async (t) => {
  const scene = await built(t, { name: "stock", namespace: "kube-system" });
  if (scene === null) return;
  const { message } = await scene.waitFor("CallbacksResolved", "False", "CallbackForbidden");
  assert.match(message, /^Callback orders: namespace kube-system is not among those/);
  await make(scene, { apiVersion: "v1", kind: "Namespace", metadata: { name: WAREHOUSE } });
  t.after(() => scene.cluster.request("DELETE", `/api/v1/namespaces/${WAREHOUSE}`).then(() => undefined));
  await make(scene, service(WAREHOUSE, 80));
  await scene.apply(referring({ name: "stock", namespace: WAREHOUSE }));
  await becomes(scene, `http://stock.${WAREHOUSE}.svc/`);
});

test("F40 a SinkBinding on the Deployment is kept and honoured by the worker", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await startKubelet(t, scene.plane, scene.namespace);
  const receiver = await startReceiver(t, { host: reachableAddress() });
  await scene.connect();
  await scene.apply({ callbacks: [{ name: "orders", http: { uriFrom: "SinkBinding" } }] });
  const { message } = await scene.waitFor("CallbacksResolved", "False", "CallbackNotFound");
  assert.match(message, /no SinkBinding has set K_SINK on Deployment shop yet/);
  await scene.database.query("insert into public.orders values (1, 1)");
  await eventually(() => scene.deployment());
  // As Knative's controller does it.
  const env = [
    { name: "K_SINK", value: `${receiver.url}/bound` },
    { name: "K_CE_OVERRIDES", value: '{"extensions":{"team":"data"}}' },
  ];
  const template = { spec: { containers: [{ name: "worker", env }] } };
  const { status } = await scene.cluster.request(
    "PATCH",
    `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`,
    {
      body: { spec: { template } },
      type: "application/strategic-merge-patch+json",
    },
  );
  assert.equal(status, 200);
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  await receiver.waitFor(1, 60_000);
  const [request] = receiver.requests;
  assert.equal(request?.path, "/bound");
  assert.equal(request?.headers["ce-team"], "data");
  assert.equal((await scene.get())?.status?.callbacks?.[0]?.uri, `${receiver.url}/bound`);
});
