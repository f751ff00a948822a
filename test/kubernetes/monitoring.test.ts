/** Alerts and dashboard of the chart against a real Prometheus that scrapes a real operator and a real worker. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { only, renderChart } from "../support/chart.ts";
import { startKubelet } from "../support/kubelet.ts";
import {
  alertsOf,
  dashboardQueries,
  groupingsIn,
  scrapeConfiguration,
  selectorsIn,
} from "../support/monitoring.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { prometheusMissing, startPrometheus } from "../support/prometheus.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";

const suite = operatorSuite();
const METRICS = {
  podMonitor: { enabled: true },
  workerPodMonitor: { enabled: true },
  prometheusRule: { enabled: true },
  dashboard: { enabled: true },
};

test("every metric and label of alerts and dashboard is there, and every query has an answer", {
  skip: await prometheusMissing(),
}, async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  // The second event is refused for good: a dead letter.
  const receiver = await startReceiver(t, {
    host: reachableAddress(),
    respond: (_, index) => (index === 1 ? 422 : 204),
  });
  await scene.connect();
  await scene.apply({ callbacks: [{ name: "orders", http: { uri: `${receiver.url}/events` } }] });
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });

  const { namespace } = scene.installation;
  const objects = await renderChart({ metrics: METRICS }, { namespace });
  const { body } = await scene.cluster.request("GET", `/api/v1/namespaces/${scene.namespace}/pods`);
  const [pod] = kubelet.pods();
  const worker = { ...body.items[0].metadata, metricsUrl: pod?.metricsUrl ?? "" };
  const { labels } = only(objects, "Deployment").spec.template.metadata;
  const operator = { namespace, name: "operator", labels, metricsUrl: scene.operator.metricsUrl };
  const monitors = objects.filter(({ kind }) => kind === "PodMonitor");
  assert.equal(monitors.length, 2);
  const prometheus = await startPrometheus(t, scrapeConfiguration(monitors, [operator, worker]));
  const value = async (expr: string) =>
    (await prometheus.query(expr)).map((sample) => Number(sample.value[1]));

  // Scraped once before the events, so that what they add is an increase.
  await eventually(async () => (await value("pgevents_deliveries_total")).length > 0);
  await scene.database.query("insert into public.orders select i, i from generate_series(1, 5) as i");
  const deadLetters = alertsOf(objects).find(({ alert }) => alert === "PgEventsDeadLetters")?.expr ?? "";
  await eventually(async () => (await prometheus.query(deadLetters)).length === 1, { what: deadLetters });
  const [{ metric } = { metric: {} }] = await prometheus.query(deadLetters);
  assert.deepEqual(metric, { source_namespace: scene.namespace, source: "shop", callback: "orders" });

  const queries = dashboardQueries(objects);
  assert.ok(queries.length > 35);
  for (const { title, expr } of queries)
    await eventually(async () => (await prometheus.query(expr)).length > 0, { what: `${title}: ${expr}` });
  for (const { alert, expr } of alertsOf(objects)) {
    assert.equal((await prometheus.query(expr)).length, alert === "PgEventsDeadLetters" ? 1 : 0, alert);
  }
  for (const expr of [...queries, ...alertsOf(objects)].map((one) => one.expr)) {
    for (const selector of selectorsIn(expr)) {
      const series = await prometheus.query(selector);
      assert.ok(series.length > 0, `${selector} of ${expr}`);
      for (const label of groupingsIn(expr))
        assert.ok(
          series.every((one) => one.metric[label] !== undefined),
          `${selector} has no label ${label}: ${expr}`,
        );
    }
  }
});
