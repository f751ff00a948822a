/** Renders the chart with the real helm, as one would on a command line. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { helm } from "./kube-tools.ts";

export const CHART = join(import.meta.dirname, "../../charts/pg-events");

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  // biome-ignore lint/suspicious/noExplicitAny: of many kinds; each test knows what it looks at
  [field: string]: any;
}

export interface HelmRun {
  status: number;
  output: string;
}

/** Runs helm with the values in a file; the output is both streams. */
export async function runHelm(args: string[], values: object = {}): Promise<HelmRun> {
  const program = await helm();
  const directory = mkdtempSync(join(tmpdir(), "pg-events-chart-"));
  try {
    const file = join(directory, "values.yaml");
    writeFileSync(file, JSON.stringify(values));
    return await new Promise((resolve) => {
      const options = { maxBuffer: 64 * 1024 * 1024 };
      execFile(program, [...args, "--values", file], options, (error, stdout, stderr) =>
        resolve({ status: error === null ? 0 : Number(error.code ?? -1), output: `${stdout}${stderr}` }),
      );
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The objects of a release named pg-events; the test's own are left out unless asked for. */
export async function renderChart(
  values: object = {},
  { namespace = "pg-events", tests = false } = {},
): Promise<KubernetesObject[]> {
  const skip = tests ? [] : ["--skip-tests"];
  const { status, output } = await runHelm(
    ["template", "pg-events", CHART, "--namespace", namespace, ...skip],
    values,
  );
  if (status !== 0) throw new Error(output);
  return objectsIn(output);
}

export function objectsIn(yaml: string): KubernetesObject[] {
  const documents = parseAllDocuments(yaml).map((document) => document.toJS({ maxAliasCount: 0 }));
  return documents.filter((object) => object !== null) as KubernetesObject[];
}

/** The only object of a kind; fails when there are none or several. */
export function only(objects: KubernetesObject[], kind: string, name?: string): KubernetesObject {
  const found = objects.filter(
    (object) => object.kind === kind && (name === undefined || object.metadata.name === name),
  );
  if (found.length !== 1) throw new Error(`expected one ${kind} ${name ?? ""}, found ${found.length}`);
  return found[0] as KubernetesObject;
}
