/**
 * The whole path in a cluster: the chart, applied as it renders, with its operator pods and the worker
 * pods run by test/support/kubelet.ts in namespaces that enforce the restricted pod security standard.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type TestContext, test } from "node:test";
import { stringify } from "yaml";
import { renderChart } from "../support/chart.ts";
import { type ClusterRequests, clusterRequests } from "../support/cluster-requests.ts";
import { type ControlPlane, kubectl, testNamespace, useControlPlane } from "../support/control-plane.ts";
import { type Kubelet, startKubelet } from "../support/kubelet.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";
import { applyObject } from "../support/server-dry-run.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };
const SHORT_LEASE = {
  leaderElection: { leaseDurationSeconds: 4, renewDeadlineSeconds: 3, retryPeriodSeconds: 1 },
};
const TOKEN = "Bearer e2e-secret-token-value";

test("F55 from helm and kubectl apply to a delivered change, and back to nothing", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const operators = await installWholeChart(t, plane);
  const namespace = await testNamespace(t, plane, RESTRICTED);
  const workers = await startKubelet(t, plane, namespace);
  const sources = await sourcesIn(t, plane, namespace);
  const receiver = await startReceiver(t, { host: reachableAddress() });
  const database = await testDatabase(t, { owner: true });
  await database.query("create table public.orders (id integer primary key, total numeric)");
  const run = (...args: string[]) => kubectl(plane, [...args, "-n", namespace]);

  await t.test("kubectl apply makes it Ready", async () => {
    const input = manifests(secretData(database.settings), `${receiver.url}/events`);
    await kubectl(plane, ["apply", "-n", namespace, "-f", "-"], { input });
    await sources.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
    assert.match(await run("get", "pges"), /\nshop +True +Ready +1 +1 +\d+s\n/);
  });

  await t.test("G1 G5 each committed change arrives once, with the header of its Secret", async () => {
    await database.query("insert into public.orders values (1, 10.50)");
    await database.query("update public.orders set total = 11 where id = 1");
    await database.query("begin; insert into public.orders values (2, 1); rollback");
    await database.query("delete from public.orders where id = 1");
    const events = await receiver.waitFor(3);
    assert.deepEqual(
      events.map(({ data }) => data.operation),
      ["Insert", "Update", "Delete"],
    );
    assert.ok(receiver.requests.every(({ headers }) => headers.authorization === TOKEN));
    assert.equal(new Set(events.map(({ id }) => id)).size, 3);
  });

  await t.test("a table that is created is captured, without a word to anybody", async () => {
    await database.query("create table public.customers (id integer primary key)");
    await eventually(
      async () => {
        await database.query(
          "insert into public.customers select coalesce(max(id), 0) + 1 from public.customers",
        );
        return receiver.events.some(({ data }) => data.relation.table === "customers");
      },
      { timeoutMs: 30_000, what: "an event of the new table" },
    );
  });

  await t.test("G5 two workers deliver each event once", async () => {
    await run("scale", "pges/shop", "--replicas=2");
    await sources.waitFor("Deployed", "True", "Available", { timeoutMs: 60_000 });
    assert.equal(workers.pods().length, 2);
    await database.query("insert into public.orders select n, n from generate_series(100, 299) as n");
    const ofOrders = () =>
      receiver.events.filter(({ data }) => Number((data.new as { id?: number } | null)?.id) >= 100);
    await receiver.waitFor(() => ofOrders().length >= 200, 30_000);
    assert.equal(new Set(ofOrders().map(({ id }) => id)).size, ofOrders().length);
  });

  await t.test(
    "F43 the operator's leader goes: events flow on, and the other one does its work",
    async () => {
      const leader = operators.pods().find(({ output }) => output.includes('"leading"'));
      assert.ok(leader);
      leader.process?.kill("SIGKILL");
      const before = receiver.events.length;
      await database.query("insert into public.orders values (1000, 1)");
      await receiver.waitFor(before + 1);
      await run("patch", "pges/shop", "--type=merge", "-p", '{"spec":{"suspend":true}}');
      await sources.waitFor("Ready", "False", "Suspended", { timeoutMs: 60_000 });
    },
  );

  await t.test("F42 what is written while it is suspended is delivered afterwards", async () => {
    await eventually(() => workers.pods().length === 0, {
      what: "the end of the workers",
      timeoutMs: 40_000,
    });
    const before = receiver.events.length;
    await database.query("insert into public.orders values (2000, 1)");
    await run("patch", "pges/shop", "--type=merge", "-p", '{"spec":{"suspend":false}}');
    const events = await receiver.waitFor(before + 1, 60_000);
    assert.equal(events.at(-1)?.data.new?.id, 2000);
  });

  await t.test("kubectl delete takes everything away", async () => {
    const last = workers.pods();
    await run("delete", "pges/shop", "--timeout=60s");
    const { rows } = await database.query(
      "select 1 from pg_namespace where nspname = 'pgevents' union all select 1 from pg_trigger where not tgisinternal",
    );
    assert.deepEqual(rows, []);
    await eventually(() => workers.pods().length === 0, {
      what: "the end of the workers",
      timeoutMs: 40_000,
    });
    for (const { output } of last) assert.doesNotMatch(output, /sqlstate/, "capture went before its workers");
  });

  await t.test("no secret value shows in anything that was written", async () => {
    const { body } = await sources.cluster.request("GET", `/api/v1/namespaces/${namespace}/events`);
    const pods = [...operators.pods(), ...workers.pods()].map(({ output }) => output);
    const written = JSON.stringify([body, pods]);
    for (const value of [TOKEN, database.settings.password ?? ""])
      assert.ok(value.length > 3 && !written.includes(value));
  });
});

/** Everything the chart renders, pods included; returns the kubelet that runs the operators. */
async function installWholeChart(t: TestContext, plane: ControlPlane): Promise<Kubelet> {
  const namespace = `pg-events-${randomBytes(4).toString("hex")}`;
  const cluster = await clusterRequests(plane.kubeconfig);
  const objects = await renderChart({ crds: { keep: false }, ...SHORT_LEASE }, { namespace });
  const home = { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels: RESTRICTED } };
  t.after(async () => {
    for (const { kind, metadata } of objects.filter((object) => object.kind.startsWith("ClusterRole"))) {
      await cluster.request(
        "DELETE",
        `/apis/rbac.authorization.k8s.io/v1/${kind.toLowerCase()}s/${metadata.name}`,
      );
    }
    await cluster.request("DELETE", `/api/v1/namespaces/${namespace}`);
    cluster.close();
  });
  for (const object of [home, ...objects]) assert.equal(await applyObject(cluster, object, false), null);
  const kubelet = await startKubelet(t, plane, namespace);
  await available(cluster, namespace);
  return kubelet;
}

async function available(cluster: ClusterRequests, namespace: string): Promise<void> {
  const path = `/apis/apps/v1/namespaces/${namespace}/deployments/pg-events-operator`;
  await eventually(
    async () => {
      const { body } = await cluster.request("GET", path);
      return body.status?.availableReplicas === 2;
    },
    { timeoutMs: 60_000, what: "both operator pods to be ready" },
  );
}

/** A Secret with the connection, one for a header, and the source: what a user writes. */
function manifests(connection: Record<string, string>, uri: string): string {
  const secret = (name: string, stringData: object, labels: object = {}) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, labels },
    stringData,
  });
  const source = {
    apiVersion: "pgevents.dev/v1alpha1",
    kind: "PgEventSource",
    metadata: { name: "shop" },
    spec: {
      database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } },
      callbacks: [
        {
          name: "orders",
          http: { uri, headers: [{ name: "Authorization", secretKeyRef: { name: "orders", key: "token" } }] },
        },
      ],
    },
  };
  const allowed = secret("orders", { token: TOKEN }, { "pgevents.dev/allow": "true" });
  return [secret("shop-db", connection), allowed, source].map((object) => stringify(object)).join("---\n");
}
