/**
 * Writes what is made from the source: CRD, chart copy, values, plain manifests, reference pages.
 *
 *   node scripts/generate.ts           writes the files
 *   node scripts/generate.ts --check   writes nothing; exits 1 when a file is not what it should be
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { helmProgram } from "../test/support/cluster/helm.ts";
import { chartReadme, crdFile, crdTemplate, valuesFile, valuesSchema } from "./generate/chart.ts";
import { dashboardFile } from "./generate/dashboard.ts";
import { errorReference } from "./generate/errors.ts";
import { findingReference } from "./generate/findings.ts";
import { installFile, monitoringFile, namespaceRightsFile } from "./generate/install.ts";
import { licenseReference } from "./generate/licenses.ts";
import { metricsReference } from "./generate/metrics.ts";
import { editorSchema, fieldReference } from "./generate/reference.ts";

const ROOT = join(import.meta.dirname, "..");
const CHART = "charts/pg-events";
const chart = join(ROOT, CHART);
const helm = () => helmProgram() ?? "helm";

/** In the order in which they are made: the last ones are rendered from the chart. */
const OUTPUTS: Record<string, () => string | Promise<string>> = {
  "crds/pgevents.dev_pgeventsources.yaml": crdFile,
  [`${CHART}/templates/crd.yaml`]: crdTemplate,
  [`${CHART}/values.yaml`]: valuesFile,
  [`${CHART}/values.schema.json`]: valuesSchema,
  [`${CHART}/README.md`]: chartReadme,
  [`${CHART}/files/dashboard.json`]: dashboardFile,
  "docs/reference/pgeventsource.md": fieldReference,
  "docs/reference/pgeventsource.schema.json": editorSchema,
  "docs/reference/errors.md": errorReference,
  "docs/reference/findings.md": findingReference,
  "docs/reference/licenses.md": licenseReference,
  "docs/reference/metrics.md": metricsReference,
  "deploy/base/install.yaml": () => installFile(helm(), chart),
  "deploy/components/monitoring/monitoring.yaml": () => monitoringFile(helm(), chart),
  "deploy/overlays/single-namespace/rights.yaml": () => namespaceRightsFile(helm(), chart),
};

const check = process.argv.includes("--check");
const stale: string[] = [];
for (const [path, make] of Object.entries(OUTPUTS)) if (!isCurrent(path, await make())) stale.push(path);
if (check && stale.length > 0) {
  const list = stale.map((path) => `  ${path}`).join("\n");
  console.error(`Not up to date:\n${list}\nRun \`npm run generate\` and commit the result.`);
  process.exitCode = 1;
}

/** Compares, and writes unless only a check was asked for. */
function isCurrent(path: string, text: string): boolean {
  const file = join(ROOT, path);
  if (existsSync(file) && readFileSync(file, "utf8") === text) return true;
  if (!check) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    console.log(`wrote ${path}`);
  }
  return false;
}
