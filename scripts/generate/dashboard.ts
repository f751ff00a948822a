/** charts/pg-events/files/dashboard.json: the Grafana dashboard, made from the list of its panels. */
import { ROWS } from "./dashboard-panels.ts";
import type { Panel } from "./dashboard-queries.ts";

const COLUMNS = 24;
const STAT_HEIGHT = 4;
const GRAPH_HEIGHT = 8;
// biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana
const DATA_SOURCE = { type: "prometheus", uid: "${datasource}" };

/** The file's text. */
export function dashboardFile(): string {
  const dashboard = {
    uid: "pg-events",
    title: "pg-events",
    tags: ["pg-events", "postgresql"],
    schemaVersion: 39,
    version: 1,
    editable: true,
    refresh: "30s",
    time: { from: "now-3h", to: "now" },
    templating: { list: variables() },
    panels: placed(),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function variables(): object[] {
  const choice = (name: string, label: string, query: string) => ({
    name,
    label,
    type: "query",
    datasource: DATA_SOURCE,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { selected: true, text: ["All"], value: ["$__all"] },
  });
  const condition = "pgevents_source_condition";
  return [
    { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" },
    choice("namespace", "Namespace", `label_values(${condition}, source_namespace)`),
    choice("source", "Source", `label_values(${condition}{source_namespace=~"$namespace"}, source)`),
  ];
}

/** Panels from left to right, a new line when the next one does not fit. */
function placed(): object[] {
  const panels: object[] = [];
  let y = 0;
  for (const row of ROWS) {
    panels.push({
      ...next(panels),
      type: "row",
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: box(0, y, COLUMNS, 1),
    });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      if (x + panel.width > COLUMNS) {
        x = 0;
        y += height;
      }
      height = panel.type === "stat" ? STAT_HEIGHT : GRAPH_HEIGHT;
      panels.push({ ...next(panels), ...drawn(panel), gridPos: box(x, y, panel.width, height) });
      x += panel.width;
    }
    y += height;
  }
  return panels;
}

const next = (panels: readonly object[]) => ({ id: panels.length + 1 });
const box = (x: number, y: number, w: number, h: number) => ({ x, y, w, h });

function drawn({ title, description, type, unit, queries }: Panel): object {
  const targets = queries.map(({ expr, legend }, index) => ({
    refId: String.fromCharCode("A".charCodeAt(0) + index),
    datasource: DATA_SOURCE,
    expr,
    legendFormat: legend,
  }));
  const options =
    type === "stat"
      ? { reduceOptions: { calcs: ["lastNotNull"] }, colorMode: "none" }
      : { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } };
  return {
    type,
    title,
    description,
    datasource: DATA_SOURCE,
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options,
    targets,
  };
}
