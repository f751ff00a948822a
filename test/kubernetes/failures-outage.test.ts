/** On a control plane of its own, which loses its API server and its CustomResourceDefinition. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { pgEventSourceCrd } from "../../scripts/generate/crd.ts";
import { type ClusterRequests, clusterRequests } from "../support/cluster-requests.ts";
import { type ControlPlane, startControlPlane, useControlPlane } from "../support/control-plane.ts";
import { type Installation, installChart, ready, startOperator } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

const CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SOURCES = "/apis/pgevents.dev/v1alpha1/namespaces/default/pgeventsources";
const LATER = { timeoutMs: 90_000 };

interface Scene {
  readonly plane: ControlPlane;
  readonly cluster: ClusterRequests;
  readonly installation: Installation;
  readonly end: { after(work: () => Promise<void> | void): void };
}

async function scene(t: TestContext): Promise<Scene | null> {
  if ((await useControlPlane(t)) === null) return null;
  const plane = await startControlPlane();
  const endings = [() => plane.stop()];
  const end = { after: (work: () => Promise<void> | void) => void endings.unshift(async () => work()) };
  t.after(async () => {
    for (const ending of endings) await ending(); // the control plane goes last
  });
  const cluster = await clusterRequests(plane.kubeconfig);
  end.after(() => cluster.close());
  return { plane, cluster, installation: await installChart(end, plane), end };
}

/** Replaces the CustomResourceDefinition, and waits until the API server serves it. */
async function serve(cluster: ClusterRequests, crd: object): Promise<void> {
  const path = `${CRD}/pgeventsources.pgevents.dev?fieldManager=test&force=true`;
  const { status, body } = await cluster.request("PATCH", path, {
    body: crd,
    type: "application/apply-patch+yaml",
  });
  assert.ok(status < 300, body.message);
  await eventually(async () => (await cluster.request("GET", SOURCES)).status === 200, {
    ...LATER,
    what: "the resource",
  });
}

test("F1 F51 F53 the API server and the definition go and come back, and what was stored under another one is told", {
  timeout: 400_000,
}, async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const { plane, cluster, installation, end } = s;
  const database = await testDatabase(t);
  const sources = await sourcesIn(end, plane, "default");
  await sources.writeSecret(secretData(database.settings));
  const built = async (name: string) => {
    await sources.apply({ capture: { schemaName: `pgevents_${name}` } }, name);
    await sources.waitFor("Built", "True", undefined, { name, ...LATER });
  };

  await t.test("F51 without the definition it lives, and begins when it is there", async () => {
    await cluster.request("DELETE", `${CRD}/pgeventsources.pgevents.dev`);
    await eventually(async () => (await cluster.request("GET", SOURCES)).status === 404, LATER);
    const operator = await startOperator(end, plane, installation);
    await operator.waitForLine(/pgeventsources.*API server not reached/);
    assert.equal((await fetch(`${operator.probesUrl}/livez`)).status, 200);
    assert.equal((await fetch(`${operator.probesUrl}/readyz`)).status, 503);
    await serve(cluster, pgEventSourceCrd());
    await ready(operator);
    await built("first");
    operator.kill("SIGTERM");
    assert.equal((await operator.exited).code, 0);
  });

  const operator = await startOperator(end, plane, installation, ["--resync-seconds=3"]);
  await ready(operator);

  await t.test("F1 a short outage: the leader goes on, and does what changed meanwhile", async () => {
    await plane.stopApiServer("SIGKILL");
    await operator.waitForLine(/API server not reached/);
    // Seconds, which is less than the deadline to renew the lease.
    await plane.startApiServer();
    await sources.apply(
      { capture: { schemaName: "pgevents_first", tables: [{ schema: "public", name: "none" }] } },
      "first",
    );
    await sources.waitFor("Built", "False", "TableNotFound", { name: "first", ...LATER });
    assert.equal((await fetch(`${operator.probesUrl}/livez`)).status, 200);
  });

  await t.test(
    "F51 the definition goes while it runs: no crash, and when it is back all is done again",
    async () => {
      await cluster.request("PATCH", `${SOURCES}/first`, {
        body: { metadata: { finalizers: null } },
        type: "application/merge-patch+json",
      });
      await cluster.request("DELETE", `${CRD}/pgeventsources.pgevents.dev`);
      await eventually(async () => (await cluster.request("GET", SOURCES)).status === 404, LATER);
      await serve(cluster, pgEventSourceCrd());
      await built("second");
    },
  );

  await t.test(
    "F51 F46 a definition with a field that this version does not know: what is stored without it stays well",
    async () => {
      await serve(cluster, withUnknownFields());
      await sources.patch({ spec: { worker: { logLevel: "Debug" } } }, "second");
      await sources.waitFor("Built", "True", undefined, { name: "second", ...LATER });
    },
  );

  await t.test(
    "F53 F46 a source that does not parse says so, is left as it was built, and hinders no other",
    async () => {
      const before = await sources.deployment("second");
      await sources.patch({ spec: { capture: { hideEverything: true } } }, "second");
      const { message } = await sources.waitFor("Built", "False", "InvalidSpec", {
        name: "second",
        ...LATER,
      });
      assert.match(message, /spec\.capture\.hideEverything: no such field/);
      assert.equal((await sources.deployment("second")).metadata.generation, before.metadata.generation);
      assert.equal(await schemas(), 1);
      await built("third");
      await sources.remove("second");
      await sources.waitUntilGone("second", LATER.timeoutMs);
      assert.equal(await schemas(), 0, "its capture goes with it all the same");
    },
  );

  await t.test(
    "F1 a long outage: the leader ends as it cannot renew, the other one waits, and takes over",
    async () => {
      const follower = await startOperator(end, plane, installation);
      await ready(follower);
      await plane.stopApiServer("SIGKILL");
      assert.equal((await operator.exited).code, 1);
      await follower.waitForLine(/lease not reached/);
      assert.equal((await fetch(`${follower.probesUrl}/livez`)).status, 200);
      await plane.startApiServer();
      await follower.waitForLine(/"leading"/, LATER.timeoutMs);
      await sources.patch({ spec: { capture: { tables: [{ schema: "public", name: "none" }] } } }, "third");
      await sources.waitFor("Built", "False", "TableNotFound", { name: "third", ...LATER });
    },
  );

  async function schemas(): Promise<number> {
    return (
      (await database.query("select 1 from pg_namespace where nspname = 'pgevents_second'")).rowCount ?? 0
    );
  }
});

/** The definition as a later version may have it: with more fields of `spec.capture`. */
function withUnknownFields(): object {
  const crd = structuredClone(pgEventSourceCrd()) as unknown as {
    spec: {
      versions: {
        schema: { openAPIV3Schema: { properties: { spec: { properties: { capture: object } } } } };
      }[];
    };
  };
  for (const { schema } of crd.spec.versions)
    Object.assign(schema.openAPIV3Schema.properties.spec.properties.capture, {
      "x-kubernetes-preserve-unknown-fields": true,
    });
  return crd;
}
