/**
 * deploy/: what the chart renders as plain manifests, for `kubectl apply -k deploy`.
 * The chart stays the one source; labels and annotations that only mean something to Helm go.
 */
import { execFileSync } from "node:child_process";
import { parseAllDocuments } from "yaml";
import { GENERATED_YAML, yamlText } from "./chart.ts";

const NAMESPACE = "pg-events";
const HELM_KEYS = ["helm.sh/chart", "helm.sh/resource-policy", "pgevents.dev/chart-version"];
const MANAGED_BY = "app.kubernetes.io/managed-by";

interface Manifest {
  kind: string;
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: { template?: Manifest };
}

const MONITORING = ["podMonitor", "workerPodMonitor", "prometheusRule", "dashboard"];

/** A file of deploy/, as text; needs the other files of the chart to be written already. */
type DeployFile = (helm: string, chart: string) => string;

/** deploy/base/install.yaml: the defaults. */
export const installFile: DeployFile = (helm, chart) => fileOf(rendered(helm, chart));

/** deploy/components/monitoring/monitoring.yaml: what the values of `metrics` add to the defaults. */
export const monitoringFile: DeployFile = (helm, chart) =>
  fileOf(
    added(
      helm,
      chart,
      MONITORING.map((name) => `metrics.${name}.enabled=true`),
    ),
  );

/** deploy/overlays/single-namespace/rights.yaml: what `watchNamespaces` adds to the defaults. */
export const namespaceRightsFile: DeployFile = (helm, chart) =>
  fileOf(added(helm, chart, [`watchNamespaces={${NAMESPACE}}`]));

function added(helm: string, chart: string, settings: readonly string[]): Manifest[] {
  const base = rendered(helm, chart).map(identity);
  return rendered(helm, chart, settings).filter((manifest) => !base.includes(identity(manifest)));
}

const identity = ({ kind, metadata }: Manifest) => `${kind} ${metadata.name}`;

const fileOf = (manifests: readonly Manifest[]) =>
  `${GENERATED_YAML}\n${manifests.map((manifest) => yamlText(manifest)).join("---\n")}`;

function rendered(helm: string, chart: string, settings: readonly string[] = []): Manifest[] {
  const set = ["crds.keep=false", ...settings].flatMap((setting) => ["--set", setting]);
  const args = ["template", "pg-events", chart, "--namespace", NAMESPACE, "--skip-tests", ...set];
  const text = execFileSync(helm, args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  const manifests = parseAllDocuments(text).map((document) => document.toJS() as Manifest | null);
  return manifests.filter((manifest) => manifest !== null).map(withoutHelm);
}

function withoutHelm(manifest: Manifest): Manifest {
  const { labels, annotations } = manifest.metadata;
  const template = manifest.spec?.template;
  return {
    ...manifest,
    metadata: {
      ...manifest.metadata,
      ...(labels === undefined ? {} : { labels: without(labels) }),
      ...(annotations === undefined || Object.keys(without(annotations)).length === 0
        ? { annotations: undefined }
        : { annotations: without(annotations) }),
    },
    ...(template === undefined ? {} : { spec: { ...manifest.spec, template: withoutHelm(template) } }),
  } as Manifest;
}

function without(words: Record<string, string>): Record<string, string> {
  const kept = Object.entries(words).filter(([key]) => !HELM_KEYS.includes(key) && key !== MANAGED_BY);
  return Object.fromEntries(kept);
}
