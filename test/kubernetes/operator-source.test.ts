import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { kubectl } from "../support/control-plane.ts";
import { environmentOf } from "../support/deployments.ts";
import { startKubelet } from "../support/kubelet.ts";
import { ORDERS_CAPTURED, operatorSuite, type Scene } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";

const suite = operatorSuite();

const summary = async (scene: Scene) => {
  const source = await scene.get();
  return Object.fromEntries(
    (source?.status?.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]),
  );
};

/** Of the only callback, as the status tells it. */
const stateOf = async (scene: Scene) => (await scene.get())?.status?.callbacks?.[0]?.state;

describe("a source", () => {
  test("F12 G8 waits for its Secret, and is Ready only once a worker serves it", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    const kubelet = await startKubelet(t, scene.plane, scene.namespace);
    await scene.apply();
    const missing = await scene.waitFor("CredentialsResolved", "False", "SecretNotFound");
    assert.match(missing.message, /shop-db/);
    assert.deepEqual(await summary(scene), {
      Ready: "False SecretNotFound",
      CredentialsResolved: "False SecretNotFound",
      DatabaseReachable: "Unknown Pending",
      Built: "Unknown Pending",
      CallbacksResolved: "True Resolved",
      Deployed: "Unknown Pending",
      Delivering: "Unknown Pending",
    });
    assert.equal((await scene.get())?.metadata.finalizers, undefined, "nothing to clean up yet");
    assert.equal(await scene.deployment(), null);

    await scene.connect();
    await scene.waitFor("CredentialsResolved", "True", "Resolved", { timeoutMs: 30_000 });
    await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
    assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
    assert.ok((await scene.get())?.status?.build?.lastBuildTime);
    assert.deepEqual((await scene.get())?.metadata.finalizers, ["pgevents.dev/capture"]);
    assert.equal(kubelet.pods().length, 1);
    const columns = (await kubectl(scene.plane, ["get", "pges", "-n", scene.namespace])).trim().split("\n");
    assert.match(columns[0] ?? "", /^NAME +READY +REASON +TABLES +WORKERS +AGE$/);
    assert.match(columns[1] ?? "", /^shop +True +Ready +1 +1 +\d+s$/);
    const events = await scene.events();
    for (const reason of [
      "Warning SecretNotFound",
      "Normal Built",
      "Normal DeploymentCreated",
      "Normal Ready",
    ]) {
      assert.equal(
        events.filter((event) => event.startsWith(`${reason}:`)).length,
        1,
        `${reason} in ${events.join("\n")}`,
      );
    }
  });

  test("a change of the spec is built, and reaches the worker", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.database.query("create table public.customers (id integer primary key)");
    await scene.apply({ capture: { tables: [{ schema: "public", name: "orders" }] } });
    await scene.waitFor("Built", "True");
    assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
    const before = await scene.deployment();

    await scene.apply({
      capture: { tables: [{ schema: "public", name: "customers", operations: ["Insert"] }] },
    });
    await scene.waitFor("Built", "True");
    assert.deepEqual(await scene.triggers(), { customers: 1 });
    const after = await eventually(async () => {
      const live = await scene.deployment();
      return live.metadata.generation > before.metadata.generation && live;
    });
    const source = environmentOf(after).PG_EVENTS_SOURCE as string;
    assert.deepEqual(JSON.parse(source).spec.capture.tables, [
      { schema: "public", name: "customers", operations: ["Insert"] },
    ]);
  });

  test("G8 is not Ready while a callback does not take events, and says which", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await startKubelet(t, scene.plane, scene.namespace);
    let broken = true;
    const receiver = await startReceiver(t, {
      host: reachableAddress(),
      respond: () => (broken ? 503 : 204),
    });
    await scene.connect();
    const delivery = { backoffSeconds: 1, maxBackoffSeconds: 1 };
    const http = { uri: `${receiver.url}/events` };
    await scene.apply({ callbacks: [{ name: "orders", http, delivery }] });
    await scene.waitFor("Ready", "True", undefined, { timeoutMs: 60_000 });
    await scene.database.query("insert into public.orders values (1, 1)");
    await eventually(async () => ((await stateOf(scene)) === "Failing" ? true : scene.askToLook()), {
      what: "a callback that fails",
      timeoutMs: 30_000,
    });
    const { message } = await scene.waitFor("Ready", "False", "CallbackFailing");
    assert.equal(message, "Delivering: Callback orders: 503: the receiver cannot take the event now.");
    await scene.waitForEvent(/^Warning CallbackFailing: /);
    broken = false;
    await receiver.waitFor(1);
    await scene.waitFor("Ready", "True", undefined, { timeoutMs: 60_000 });
  });

  test("F42 suspended: no worker, capture goes on; resumed: as before", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await startKubelet(t, scene.plane, scene.namespace);
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Ready", "True");
    await scene.patch({ spec: { suspend: true } });
    await scene.waitFor("Ready", "False", "Suspended");
    await eventually(async () => (await scene.deployment()).status.replicas === undefined, {
      what: "no replicas",
    });
    assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
    await scene.patch({ spec: { suspend: false } });
    await scene.waitFor("Ready", "True");
    await scene.waitForEvent(/^Normal Suspended: /);
    await scene.waitForEvent(/^Normal Resumed: /);
  });

  test("is left alone while its reconciliation is disabled", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Built", "True");
    await scene.patch({ metadata: { annotations: { "pgevents.dev/reconciliation": "disabled" } } });
    await scene.waitFor("Ready", "Unknown", "ReconciliationDisabled");
    await scene.patch({ spec: { suspend: true } });
    await scene.cluster.request("DELETE", `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`);
    // A second source shows that the operator has been at work since.
    await scene.apply({ capture: { schemaName: "pgevents_2" } }, "second");
    await scene.waitFor("Built", "True", undefined, { name: "second" });
    assert.equal(await scene.deployment(), null);
    await scene.patch({ metadata: { annotations: { "pgevents.dev/reconciliation": null } } });
    await scene.waitFor("Ready", "False", "Suspended");
    assert.equal((await scene.deployment()).spec.replicas, 0);
  });
});
