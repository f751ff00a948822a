/** What the Prometheus operator makes of the chart's monitors, for a Prometheus without Kubernetes. */
import { type KubernetesObject, only } from "./chart.ts";

export interface ScrapedPod {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Where it serves its metrics. */
  readonly metricsUrl: string;
}

/** A prometheus.yml that scrapes the pods that the monitors select, with their relabelings, every second. */
export function scrapeConfiguration(
  monitors: readonly KubernetesObject[],
  pods: readonly ScrapedPod[],
): object {
  const jobs = monitors.map((monitor) => {
    const selected = pods.filter((pod) => selects(monitor, pod));
    if (selected.length === 0) throw new Error(`${monitor.kind} ${monitor.metadata.name} selects no pod`);
    const [endpoint] = monitor.spec.podMetricsEndpoints;
    return {
      job_name: monitor.metadata.name,
      metrics_path: endpoint.path,
      static_configs: selected.map(target),
      relabel_configs: [
        { source_labels: ["__meta_kubernetes_namespace"], target_label: "namespace" },
        { source_labels: ["__meta_kubernetes_pod_name"], target_label: "pod" },
        ...(endpoint.relabelings ?? []).map(snakeCase),
      ],
    };
  });
  return { global: { scrape_interval: "1s" }, scrape_configs: jobs };
}

/** The selectors of metrics in an expression, such as `a{b="c"}`, without ranges. */
export const selectorsIn = (expression: string): string[] =>
  expression.match(/\b(pgevents|process)_\w+(\{[^}]*\})?/g) ?? [];

/** The labels by which an expression groups. */
export function groupingsIn(expression: string): string[] {
  const lists = [...expression.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].map(([, names = ""]) =>
    names.split(/, */),
  );
  return [...new Set(lists.flat())];
}

/** The chart's alerts. */
export const alertsOf = (objects: KubernetesObject[]): { alert: string; expr: string }[] =>
  only(objects, "PrometheusRule").spec.groups.flatMap(({ rules }: { rules: object[] }) => rules);

interface DashboardPanel {
  readonly title: string;
  readonly targets?: readonly { expr: string }[];
}

/** The queries of the chart's dashboard, for all sources, with a range of some seconds. */
export function dashboardQueries(objects: KubernetesObject[]): { title: string; expr: string }[] {
  const dashboard = JSON.parse(only(objects, "ConfigMap").data["pg-events.json"]);
  const panels = dashboard.panels as DashboardPanel[];
  const variables = dashboard.templating.list as { name: string; query: { query?: string } }[];
  const choices = variables.flatMap(({ name, query: { query } }) => {
    const [, expr, label] = /^label_values\((.*), (\w+)\)$/.exec(query ?? "") ?? [];
    return expr === undefined ? [] : [{ title: `variable ${name}`, expr: `count by (${label}) (${expr})` }];
  });
  const shown = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
  return [...choices, ...shown].map(({ title, expr }) => ({
    title,
    expr: expr.replaceAll("$__rate_interval", "10s").replaceAll(/\$(namespace|source)/g, ".*"),
  }));
}

function selects({ spec, metadata }: KubernetesObject, { namespace, labels }: ScrapedPod): boolean {
  const wanted = spec.namespaceSelector?.any === true || [metadata.namespace].includes(namespace);
  return wanted && Object.entries(spec.selector.matchLabels).every(([name, value]) => labels[name] === value);
}

function target({ namespace, name, labels, metricsUrl }: ScrapedPod) {
  const meta = Object.entries(labels).map(([key, value]) => [
    `__meta_kubernetes_pod_label_${key.replaceAll(/\W/g, "_")}`,
    value,
  ]);
  return {
    targets: [new URL(metricsUrl).host],
    labels: {
      ...Object.fromEntries(meta),
      __meta_kubernetes_namespace: namespace,
      __meta_kubernetes_pod_name: name,
    },
  };
}

const snakeCase = (relabeling: object): object =>
  Object.fromEntries(
    Object.entries(relabeling).map(([name, value]) => [
      name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
