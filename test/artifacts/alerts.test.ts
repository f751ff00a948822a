/** The chart's alerts, judged by promtool: when each fires, with which words, and that it has a runbook. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ALERT_CASES, type AlertCase } from "../support/alert-cases.ts";
import { only, renderChart } from "../support/chart.ts";
import { prometheusMissing, promtool } from "../support/prometheus.ts";

const RUNBOOKS = join(import.meta.dirname, "../../docs/runbooks");

interface Alert {
  alert: string;
  expr: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

const skip = await prometheusMissing();
let directory: string;
let groups: { rules: Alert[] }[];

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "pg-events-alerts-"));
  const objects = await renderChart({ metrics: { prometheusRule: { enabled: true } } });
  groups = only(objects, "PrometheusRule").spec.groups;
  writeFileSync(join(directory, "rules.yaml"), JSON.stringify({ groups }));
});
after(() => rmSync(directory, { recursive: true, force: true }));

test("promtool finds nothing wrong with the rules", { skip }, async () => {
  const output = await promtool(["check", "rules", "--lint=all", join(directory, "rules.yaml")]);
  assert.match(output, /SUCCESS: 9 rules found/);
});

test("every alert has cases in which it fires, and in which it does not", () => {
  for (const { alert } of groups.flatMap(({ rules }) => rules)) {
    const cases = ALERT_CASES.filter((one) => one.alert === alert);
    assert.ok(cases.some(({ fires }) => fires !== null) && cases.some(({ fires }) => fires === null), alert);
  }
});

test("every alert has a runbook, and every runbook an alert", () => {
  const alerts = groups.flatMap(({ rules }) => rules);
  for (const { alert, annotations } of alerts) {
    assert.ok(annotations.runbook_url?.endsWith(`/docs/runbooks/${alert}.md`), annotations.runbook_url);
    assert.ok(existsSync(join(RUNBOOKS, `${alert}.md`)), alert);
    for (const part of ["## What it means", "## What to look at", "## What to do"]) {
      assert.ok(readFileSync(join(RUNBOOKS, `${alert}.md`), "utf8").includes(part), `${alert}: ${part}`);
    }
    assert.match(readFileSync(join(RUNBOOKS, "README.md"), "utf8"), new RegExp(`\\(${alert}\\.md\\)`));
  }
  const pages = readdirSync(RUNBOOKS).filter((file) => file !== "README.md");
  assert.deepEqual(pages.sort(), alerts.map(({ alert }) => `${alert}.md`).sort());
});

describe("alerts", () => {
  // One run of promtool for all: it names the case that failed.
  test(`fire when they should, with their words (${ALERT_CASES.length} cases)`, { skip }, async () => {
    const file = join(directory, "tests.yaml");
    const tests = ALERT_CASES.map(promtoolTest);
    writeFileSync(file, JSON.stringify({ rule_files: ["rules.yaml"], evaluation_interval: "1m", tests }));
    assert.match(await promtool(["test", "rules", file]), /SUCCESS/);
  });
});

function promtoolTest({ title, alert, series, at, fires }: AlertCase) {
  const runbook_url = groups.flatMap(({ rules }) => rules).find((one) => one.alert === alert)
    ?.annotations.runbook_url;
  const expected =
    fires === null
      ? []
      : [
          {
            exp_labels: fires.labels,
            exp_annotations: { summary: fires.summary, description: fires.description, runbook_url },
          },
        ];
  return {
    name: `${alert}: ${title}`,
    interval: "1m",
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    alert_rule_test: [{ eval_time: at, alertname: alert, exp_alerts: expected }],
  };
}
