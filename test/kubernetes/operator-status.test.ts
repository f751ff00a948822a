import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { scrape, total } from "../support/operator.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite();

describe("the status", () => {
  test("lastTransitionTime moves only when the status of a condition does", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.apply();
    const first = await scene.waitFor("Ready", "False", "SecretNotFound");
    await eventually(() => Date.now() - Date.parse(first.lastTransitionTime) > 1100);
    await scene.writeSecret({ ...secretData(scene.database.settings), host: "" });
    await scene.askToLook();
    const second = await scene.waitFor("Ready", "False", "SecretInvalid");
    assert.equal(second.lastTransitionTime, first.lastTransitionTime);
    await scene.connect();
    await scene.askToLook();
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
    for (let look = 0; look < 2; look += 1) await scene.askToLook();
    await eventually(
      async () => total(await scrape(scene.operator.metricsUrl), RECONCILES) > total(settled, RECONCILES),
      { what: "another reconcile" },
    );
    const after = await scrape(scene.operator.metricsUrl);
    assert.equal(total(after, STATUS_WRITES), total(settled, STATUS_WRITES));
  });

  test("is not written for nothing but the time that events wait, or their number within a minute", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.apply();
    await scene.waitFor("Built", "True");
    await scene.database.query("insert into public.orders values (1, 1)");
    const waiting = await eventually(
      async () => {
        await scene.askToLook();
        const { delivery } = (await scene.get())?.status ?? {};
        return delivery?.pendingEvents === 1 ? delivery : null;
      },
      { what: "an event that waits", timeoutMs: 70_000 },
    );
    const settled = await eventually(() => settledSamples(scene), { what: "an end of status writes" });
    await scene.database.query("insert into public.orders values (2, 2)");
    const looks = async () => total(await scrape(scene.operator.metricsUrl), RECONCILES);
    for (let look = 0; look < 2; look += 1) {
      const before = await looks();
      await scene.askToLook();
      await eventually(async () => (await looks()) > before, { what: "another reconcile" });
    }
    const after = await scrape(scene.operator.metricsUrl);
    assert.equal(total(after, STATUS_WRITES), total(settled, STATUS_WRITES));
    assert.deepEqual((await scene.get())?.status?.delivery, waiting);
    assert.match(waiting.oldestPendingTime ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });
});

const RECONCILES = /^pgevents_reconcile_total/;
const STATUS_WRITES = /^pgevents_api_requests_total\{verb="PATCH",resource="pgeventsources\/status"/;

/** The metrics once a whole reconcile, of the pace while a worker is waited for, wrote no status. */
async function settledSamples(scene: Scene): Promise<Map<string, number> | null> {
  const before = await scrape(scene.operator.metricsUrl);
  await eventually(
    async () => total(await scrape(scene.operator.metricsUrl), RECONCILES) >= total(before, RECONCILES) + 2,
  );
  const after = await scrape(scene.operator.metricsUrl);
  return total(after, STATUS_WRITES) === total(before, STATUS_WRITES) ? after : null;
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
