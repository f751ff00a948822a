import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { kubectl } from "../support/control-plane.ts";
import { startKubelet } from "../support/kubelet.ts";
import { scrape } from "../support/operator.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite();

const TRIGGERS =
  "select tgrelid::regclass::text as table, count(*)::integer from pg_trigger where not tgisinternal group by 1 order by 1";
const triggers = async ({ database }: Scene) =>
  (await database.query<{ table: string; count: number }>(TRIGGERS)).rows;
const ORDERS_CAPTURED = [{ table: "orders", count: 4 }];

const summary = async (scene: Scene) => {
  const source = await scene.get();
  return Object.fromEntries(
    (source?.status?.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]),
  );
};

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
    await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED);
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
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED);
    const before = await scene.deployment();

    await scene.apply({
      capture: { tables: [{ schema: "public", name: "customers", operations: ["Insert"] }] },
    });
    await scene.waitFor("Built", "True");
    assert.deepEqual(await triggers(scene), [{ table: "customers", count: 1 }]);
    const after = await eventually(async () => {
      const live = await scene.deployment();
      return live.metadata.generation > before.metadata.generation && live;
    });
    const source = environmentOf(after).PG_EVENTS_SOURCE as string;
    assert.deepEqual(JSON.parse(source).spec.capture.tables, [
      { schema: "public", name: "customers", operations: ["Insert"] },
    ]);
  });

  test("F21 a table that does not exist is named, and captured when it does", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply({
      capture: {
        tables: [
          { schema: "public", name: "orders" },
          { schema: "public", name: "later" },
        ],
      },
    });
    const { message } = await scene.waitFor("Built", "False", "TableNotFound");
    assert.match(message, /public\.later/);
    assert.deepEqual((await scene.get())?.status?.build?.failedTables, ["public.later"]);
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED, "the other table is captured");
    await scene.database.query("create table public.later (id integer primary key)");
    await scene.waitFor("Built", "True");
    assert.equal((await triggers(scene)).length, 2);
  });

  test("F25 capture that was dropped by hand is built again, at once when asked for", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Built", "True");
    await scene.database.query("drop schema pgevents cascade");
    assert.deepEqual(await triggers(scene), []);
    await scene.patch({
      metadata: { annotations: { "pgevents.dev/rebuild-requested-at": new Date().toISOString() } },
    });
    await eventually(async () => (await triggers(scene)).length > 0, { what: "the rebuild" });
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
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED);
    await scene.patch({ spec: { suspend: false } });
    await scene.waitFor("Ready", "True");
    const events = await scene.events();
    assert.ok(
      events.some((event) => event.startsWith("Normal Suspended:")),
      events.join("\n"),
    );
    assert.ok(
      events.some((event) => event.startsWith("Normal Resumed:")),
      events.join("\n"),
    );
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

describe("the worker Deployment", () => {
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
    });
    const container = healed.spec.template.spec.containers[0];
    assert.equal(container.image, first.spec.template.spec.containers[0].image);
    assert.equal(environmentOf(healed).PG_EVENTS_LOG_LEVEL, "Info");
    assert.equal(environmentOf(healed).ADDED, "1");
    assert.equal(healed.metadata.annotations.note, "mine");
    assert.equal(healed.metadata.labels.team, "data");

    await scene.patch({ spec: { worker: { nodeSelector: null } } });
    await eventually(async () => (await scene.deployment()).spec.template.spec.nodeSelector === undefined, {
      what: "no node selector",
    });
  });

  test("F35 is made again when it is deleted", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    const first = await eventually(() => scene.deployment());
    await scene.cluster.request("DELETE", `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`);
    await eventually(async () => {
      const live = await scene.deployment();
      return live !== null && live.metadata.uid !== first.metadata.uid;
    });
  });

  test("of somebody else with the same name is not touched", async (t) => {
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

  test("F14 is rolled when a value that it uses changes, and only then", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    const hashOf = async () =>
      (await scene.deployment())?.spec.template.metadata.annotations["pgevents.dev/secrets-hash"];
    const first = await eventually(hashOf);
    await scene.writeSecret({ ...secretData(scene.database.settings), unrelated: "x" });
    await askToLook(scene, "1");
    await scene.waitFor("Built", "True");
    await scene.writeSecret({ ...secretData({ ...scene.database.settings, host: "localhost" }) });
    await askToLook(scene, "2");
    const second = await eventually(async () => {
      const hash = await hashOf();
      return hash !== first && hash;
    });
    assert.notEqual(second, first);
    const rolls = async () => (await scene.events()).filter((event) => event.includes("SecretRotated"));
    await eventually(async () => (await rolls()).length > 0, { what: "an event" });
    assert.equal((await rolls()).length, 1);
  });
});

describe("secrets", () => {
  test("F16 a Secret that is deleted stops no worker", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    const kubelet = await startKubelet(t, scene.plane, scene.namespace);
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Ready", "True");
    const { metadata } = await scene.deployment();
    await scene.cluster.request("DELETE", `/api/v1/namespaces/${scene.namespace}/secrets/shop-db`);
    await askToLook(scene, "now");
    await scene.waitFor("Ready", "False", "SecretNotFound");
    assert.equal((await scene.deployment()).metadata.generation, metadata.generation);
    assert.deepEqual(
      kubelet.pods().map(({ restarts }) => restarts),
      [0],
    );
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED);
    await scene.connect();
    await askToLook(scene, "again");
    await scene.waitFor("Ready", "True");
  });

  test("F13 a value that cannot be used is named by its key only", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.writeSecret({ ...secretData(scene.database.settings), port: "not-a-port-4711" });
    await scene.apply();
    const { message } = await scene.waitFor("CredentialsResolved", "False", "SecretInvalid");
    assert.match(message, /port/);
    assert.match(message, /shop-db/);
    await assertHidden(scene, ["not-a-port-4711", scene.database.settings.password ?? ""]);
  });

  test("a value that leaves the cluster needs the label, and shows nowhere", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    const value = "Bearer very-secret-token";
    await scene.writeSecret({ token: value }, { name: "orders-token" });
    const headers = [{ name: "Authorization", secretKeyRef: { name: "orders-token", key: "token" } }];
    await scene.apply({ callbacks: [{ name: "orders", http: { uri: "http://127.0.0.1:9/", headers } }] });
    const { message } = await scene.waitFor("CredentialsResolved", "False", "SecretNotAllowed");
    assert.match(message, /orders-token/);
    assert.match(message, /pgevents\.dev\/allow/);
    await scene.writeSecret(
      { token: value },
      { name: "orders-token", labels: { "pgevents.dev/allow": "true" } },
    );
    await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
    await eventually(() => scene.deployment());
    await assertHidden(scene, [value, scene.database.settings.password ?? ""]);
  });
});

describe("the database", () => {
  test("F17 that cannot be reached is told with its address, and tried again", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.writeSecret(secretData({ ...scene.database.settings, port: 1 }));
    await scene.apply();
    const { message } = await scene.waitFor("DatabaseReachable", "False", "ConnectionFailed");
    assert.match(message, /127\.0\.0\.1:1/);
    await scene.connect();
    await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
  });

  test("F15 a password that is refused is told, and nothing is built", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.writeSecret({ ...secretData(scene.database.settings), password: "wrong-password" });
    await scene.apply();
    await scene.waitFor("DatabaseReachable", "False", "AuthenticationFailed");
    assert.deepEqual(await triggers(scene), []);
    await assertHidden(scene, ["wrong-password"]);
    await scene.connect();
    await scene.patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": "now" } } });
    await scene.waitFor("Built", "True");
  });

  test("F26 that another source owns is left to it", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Built", "True");
    await scene.apply({}, "second");
    const { message } = await scene.waitFor("Built", "False", "OwnershipConflict", { name: "second" });
    assert.match(message, /schemaName/);
    assert.equal((await scene.get("second"))?.metadata.finalizers, undefined);
    assert.equal(await scene.deployment("second"), null);
    await scene.remove("second");
    await scene.waitUntilGone("second");
    assert.deepEqual(await triggers(scene), ORDERS_CAPTURED);
  });
});

describe("the status", () => {
  test("lastTransitionTime moves only when the status of a condition does", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.apply();
    const first = await scene.waitFor("Ready", "False", "SecretNotFound");
    await eventually(() => Date.now() - Date.parse(first.lastTransitionTime) > 1100);
    await scene.writeSecret({ ...secretData(scene.database.settings), host: "" });
    await scene.patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": "1" } } });
    const second = await scene.waitFor("Ready", "False", "SecretInvalid");
    assert.equal(second.lastTransitionTime, first.lastTransitionTime);
    await scene.connect();
    await scene.patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": "2" } } });
    const resolved = await scene.waitFor("CredentialsResolved", "True");
    assert.notEqual(resolved.lastTransitionTime, first.lastTransitionTime);
  });

  test("is not written when nothing changed", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Built", "True");
    const settled = await eventually(() => settledSamples(scene), { what: "an end of status writes" });
    for (const time of ["1", "2"]) await askToLook(scene, time);
    await eventually(
      async () => sum(await scrape(scene.operator.metricsUrl), RECONCILES) > sum(settled, RECONCILES),
      { what: "another reconcile" },
    );
    const after = await scrape(scene.operator.metricsUrl);
    assert.equal(sum(after, STATUS_WRITES), sum(settled, STATUS_WRITES));
  });
});

const RECONCILES = /^pgevents_reconcile_total/;
const STATUS_WRITES = /^pgevents_api_requests_total\{verb="PATCH",resource="pgeventsources\/status"/;

const sum = (samples: Map<string, number>, name: RegExp) =>
  [...samples].filter(([key]) => name.test(key)).reduce((total, [, value]) => total + value, 0);

const askToLook = (scene: Scene, time: string) =>
  scene.patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": time } } });

/** The metrics once a whole reconcile, of the pace while a worker is waited for, wrote no status. */
async function settledSamples(scene: Scene): Promise<Map<string, number> | null> {
  const before = await scrape(scene.operator.metricsUrl);
  await eventually(
    async () => sum(await scrape(scene.operator.metricsUrl), RECONCILES) >= sum(before, RECONCILES) + 2,
  );
  const after = await scrape(scene.operator.metricsUrl);
  return sum(after, STATUS_WRITES) === sum(before, STATUS_WRITES) ? after : null;
}

test("metrics and probes tell how the operator is; the series of a source end with it", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  const series = (samples: Map<string, number>) =>
    [...samples].filter(([name]) => name.includes(`"${scene.namespace}"`));
  const samples = await scrape(scene.operator.metricsUrl);
  assert.equal(samples.get("pgevents_leader"), 1);
  const labels = `source_namespace="${scene.namespace}",source="shop"`;
  assert.equal(samples.get(`pgevents_source_condition{${labels},type="Built",status="True"}`), 1);
  assert.equal(samples.get(`pgevents_source_condition{${labels},type="Built",status="False"}`), 0);
  for (const name of [
    "pgevents_api_requests_total",
    "pgevents_workqueue_depth",
    "pgevents_reconcile_duration_seconds_count",
    "pgevents_list_operations_total",
    "pgevents_build_info",
  ]) {
    assert.ok(
      [...samples.keys()].some((key) => key.startsWith(name)),
      name,
    );
  }
  for (const probe of ["livez", "readyz"])
    assert.equal((await fetch(`${scene.operator.probesUrl}/${probe}`)).status, 200);
  await scene.remove();
  await scene.waitUntilGone();
  await eventually(async () => series(await scrape(scene.operator.metricsUrl)).length === 0, {
    what: "no series of the source",
  });
});

const environmentOf = (deployment: {
  spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } };
}): Record<string, string | undefined> =>
  Object.fromEntries(
    deployment.spec.template.spec.containers[0]?.env.map(({ name, value }) => [name, value]) ?? [],
  );

/** None of the values is in anything that the operator wrote. */
async function assertHidden(scene: Scene, values: readonly string[]): Promise<void> {
  const written = JSON.stringify([
    await scene.get(),
    await scene.deployment(),
    await scene.events(),
    scene.operator.stderr,
    scene.operator.stdout,
  ]);
  for (const value of values) {
    assert.ok(value.length > 3);
    assert.ok(!written.includes(value), "a secret value shows");
    assert.ok(!written.includes(Buffer.from(value).toString("base64")), "an encoded secret value shows");
  }
}
