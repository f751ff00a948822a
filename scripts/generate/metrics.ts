import { type MetricObjectWithValues, type MetricValue, Registry } from "prom-client";
import { OperatorMetrics } from "../../src/operator/metrics.ts";
import { observeProcess } from "../../src/operator/process-metrics.ts";
import { createRegistry } from "../../src/runtime/observability.ts";
import { WorkerMetrics } from "../../src/worker/metrics.ts";
import { code, GENERATED_MARKDOWN, table } from "./markdown.ts";

/** docs/reference/metrics.md: what the programs register. */
export async function metricsReference(): Promise<string> {
  const worker = new Registry();
  new WorkerMetrics(worker);
  const operator = new Registry();
  new OperatorMetrics(operator);
  observeProcess(operator, { copies: () => [], reconcilesSinceMs: () => [] });
  return [
    GENERATED_MARKDOWN,
    "# Metrics",
    "Both programs serve `/metrics`, with the metrics of the Node.js process (`process_*`, `nodejs_*`) besides these.",
    "## Both",
    await rowsOf(createRegistry("0", "0"), (name) => name.startsWith("pgevents_")),
    "## Worker",
    await rowsOf(worker),
    "## Operator",
    await rowsOf(operator),
    "",
  ].join("\n\n");
}

async function rowsOf(registry: Registry, wanted: (name: string) => boolean = () => true): Promise<string> {
  const metrics = (await registry.getMetricsAsJSON()) as MetricObjectWithValues<MetricValue<string>>[];
  const rows = metrics
    .filter(({ name }) => wanted(name))
    .map(({ name, type, help }) => [code(name), String(type), labelsOf(registry, name), help])
    .sort(([a = ""], [b = ""]) => a.localeCompare(b));
  return table(["metric", "type", "labels", "meaning"], rows);
}

function labelsOf(registry: Registry, name: string): string {
  const { labelNames = [] } = registry.getSingleMetric(name) as unknown as { labelNames?: string[] };
  return labelNames
    .filter((label) => label !== "le")
    .map(code)
    .join(" ");
}
