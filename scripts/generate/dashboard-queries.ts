/** The parts that the dashboard's panels are made of. */
export interface Query {
  readonly expr: string;
  /** Of one series; labels in braces twice. */
  readonly legend: string;
}

export interface Panel {
  readonly title: string;
  readonly description: string;
  readonly type: "stat" | "timeseries";
  /** Of Grafana: short, s, bytes, ops … */
  readonly unit: string;
  /** Of 24. */
  readonly width: number;
  readonly queries: readonly Query[];
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export const OF_SOURCE = 'source_namespace=~"$namespace",source=~"$source"';
export const BY_CALLBACK = "(source_namespace, source, callback)";
export const BY_SOURCE = "(source_namespace, source)";
export const CALLBACK = "{{source_namespace}}/{{source}} {{callback}}";
export const SOURCE = "{{source_namespace}}/{{source}}";

export const stat = (title: string, unit: string, expr: string, description: string): Panel => ({
  title,
  description,
  type: "stat",
  unit,
  width: 4,
  queries: [{ expr, legend: "" }],
});
export const graph = (title: string, unit: string, description: string, ...queries: Query[]): Panel => ({
  title,
  description,
  type: "timeseries",
  unit,
  width: 8,
  queries,
});
export const query = (expr: string, legend: string): Query => ({ expr, legend });
export const measured = (metric: string) =>
  query(`max by ${BY_CALLBACK} (${metric}{${OF_SOURCE}})`, CALLBACK);
export const counted = (metric: string) =>
  query(`sum by ${BY_CALLBACK} (rate(${metric}{${OF_SOURCE}}[$__rate_interval]))`, CALLBACK);
export const quantile = (share: number, metric: string) =>
  query(
    `histogram_quantile(${share}, sum by (source_namespace, source, callback, le) (rate(${metric}_bucket{${OF_SOURCE}}[$__rate_interval])))`,
    `${CALLBACK} p${share * 100}`,
  );
export const operatorQuantile = (metric: string) =>
  query(`histogram_quantile(0.99, sum by (le) (rate(${metric}_bucket[$__rate_interval])))`, "p99");
