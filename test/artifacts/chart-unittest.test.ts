/** The tests that are part of the chart (charts/pg-events/tests), and that a package of it does not have them. */
import assert from "node:assert/strict";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CHART, runHelm } from "../support/chart.ts";
import { helm } from "../support/cluster/helm.ts";
import { runTool } from "../support/cluster/tool.ts";
import { helmUnittestMissing, testChart } from "../support/helm-unittest.ts";

test("the chart's own tests pass, all of them", { skip: await helmUnittestMissing() }, async () => {
  const tests = globSync("tests/*_test.yaml", { cwd: CHART });
  const written = tests.flatMap(
    (file) => readFileSync(join(CHART, file), "utf8").match(/^ {2}- it: /gm) ?? [],
  );
  assert.ok(written.length >= 20);
  const report = await testChart();
  assert.match(report, new RegExp(`^Tests: +${written.length} passed, ${written.length} total$`, "m"));
});

test("a package of the chart has no tests but that of `helm test`", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-package-"));
  t.after(() => rmSync(directory, { recursive: true }));
  await helm(["package", CHART, "--destination", directory]);
  const [archive = ""] = globSync("*.tgz", { cwd: directory });
  const files = await runTool("tar", ["--list", "--file", join(directory, archive)], {});
  assert.deepEqual(files.match(/.*tests\/.*/g), ["pg-events/templates/tests/check-installation.yaml"]);
});

test("a cluster that is too old is refused", async () => {
  const { status, output } = await runHelm(["template", "pg-events", CHART, "--kube-version", "1.29.9"]);
  assert.notEqual(status, 0);
  assert.match(output, /requires kubeVersion: >=1\.30\.0-0 which is incompatible with Kubernetes v1\.29\.9/);
});
