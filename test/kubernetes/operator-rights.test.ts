import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { startControlPlane, testNamespace, useControlPlane } from "../support/control-plane.ts";
import { installChart, scrape, startOperator } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

async function plain(t: TestContext) {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const database = await testDatabase(t);
  return { plane, database, secret: secretData(database.settings) };
}

const total = (samples: Map<string, number>, name: RegExp) =>
  [...samples].filter(([key]) => name.test(key)).reduce((sum, [, value]) => sum + value, 0);

test("F56 in some namespaces it needs no ClusterRole, and leaves the others alone", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret } = scene;
  const [watched, other] = [await testNamespace(t, plane), await testNamespace(t, plane)];
  const installation = await installChart(t, plane, { watchNamespaces: [watched] });
  const inside = await sourcesIn(t, plane, watched);
  const outside = await sourcesIn(t, plane, other);
  await inside.writeSecret(secret);
  await outside.writeSecret(secret);
  await outside.apply({ capture: { schemaName: "pgevents_other" } });
  const operator = await startOperator(t, plane, installation);
  await inside.apply();
  await inside.waitFor("Built", "True");
  assert.equal((await outside.get())?.status, undefined);
  const samples = await scrape(operator.metricsUrl);
  assert.equal(total(samples, /^pgevents_api_requests_total.*code="403"/), 0, operator.stderr);
  await inside.remove();
  await inside.waitUntilGone();
});

test("F10 a right that is taken away changes no status; it works on when the right is back", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret } = scene;
  const namespace = await testNamespace(t, plane);
  const sources = await sourcesIn(t, plane, namespace);
  await sources.writeSecret(secret);
  const operator = await startOperator(
    t,
    plane,
    await installChart(t, plane, { watchNamespaces: [namespace] }),
    ["--resync-seconds=1"],
  );
  await sources.apply();
  await sources.waitFor("Built", "True");
  const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/roles`;
  const role = (await sources.cluster.request("GET", path)).body.items[0];
  const patch = (rules: object[]) =>
    sources.cluster.request("PATCH", `${path}/${role.metadata.name}`, {
      body: { rules },
      type: "application/merge-patch+json",
    });
  await patch(role.rules.filter(({ resources }: { resources: string[] }) => !resources.includes("secrets")));
  await eventually(
    async () =>
      total(
        await scrape(operator.metricsUrl),
        /^pgevents_api_requests_total.*resource="secrets",code="403"/,
      ) > 0,
  );
  assert.equal((await sources.waitFor("CredentialsResolved", "True")).reason, "Resolved");
  await patch(role.rules);
  await sources.apply({ capture: { tables: [{ schema: "public", name: "missing" }] } });
  await sources.waitFor("Built", "False", "TableNotFound");
});

test("F1 the API server goes and comes back: no crash, and what changed meanwhile is done", async (t) => {
  if ((await plain(t)) === null) return;
  const plane = await startControlPlane();
  const endings = [() => plane.stop()];
  const end = { after: (work: () => Promise<void> | void) => void endings.unshift(async () => work()) };
  t.after(async () => {
    for (const ending of endings) await ending(); // the control plane goes last
  });
  const database = await testDatabase(t);
  const installation = await installChart(end, plane);
  const sources = await sourcesIn(end, plane, "default");
  await sources.writeSecret(secretData(database.settings));
  const operator = await startOperator(end, plane, installation);
  await sources.apply();
  await sources.waitFor("Built", "True");
  await plane.stopApiServer("SIGKILL");
  await operator.waitForLine(/API server not reached/);
  // A second is far less than the deadline to renew the lease.
  await plane.startApiServer();
  await sources.apply({ capture: { tables: [{ schema: "public", name: "missing" }] } });
  await sources.waitFor("Built", "False", "TableNotFound", { timeoutMs: 60_000 });
  assert.equal((await fetch(`${operator.probesUrl}/livez`)).status, 200);
});
