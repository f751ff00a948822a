/**
 * deploy/: the chart with its default values as plain manifests, for `kubectl apply -k deploy`.
 * The chart stays the one source; labels and annotations that only mean something to Helm go.
 */
import { execFileSync } from "node:child_process";
import { parseAllDocuments } from "yaml";
import { GENERATED_YAML, yamlText } from "./chart.ts";

export const NAMESPACE = "pg-events";
const HELM_KEYS = ["helm.sh/chart", "helm.sh/resource-policy", "pgevents.dev/chart-version"];
const MANAGED_BY = "app.kubernetes.io/managed-by";

interface Manifest {
  kind: string;
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: { template?: Manifest };
}

/** deploy/install.yaml; needs the other files of the chart to be written already. */
export function installFile(helm: string, chart: string): string {
  const args = [
    "template",
    "pg-events",
    chart,
    "--namespace",
    NAMESPACE,
    "--skip-tests",
    "--set",
    "crds.keep=false",
  ];
  const rendered = execFileSync(helm, args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  const manifests = parseAllDocuments(rendered).map((document) => document.toJS() as Manifest | null);
  const texts = manifests
    .filter((manifest) => manifest !== null)
    .map((manifest) => yamlText(withoutHelm(manifest)));
  return `${GENERATED_YAML}\n${texts.join("---\n")}`;
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
