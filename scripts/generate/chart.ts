import { stringify } from "yaml";
import { z } from "zod";
import { chartValues } from "./chart-values.ts";
import { pgEventSourceCrd } from "./crd.ts";
import { fieldRows } from "./field-rows.ts";
import { code, GENERATED_MARKDOWN, table } from "./markdown.ts";
import type { JsonSchema } from "./structural.ts";

const LINE_LENGTH = 100;
export const GENERATED_YAML = "# Written by scripts/generate.ts; edit its source and run `npm run generate`.";
const TEMPLATED_METADATA = `  annotations:
    {{- if .Values.crds.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    pgevents.dev/chart-version: {{ .Chart.Version | quote }}
  labels:
    {{- include "pg-events.labels" . | nindent 4 }}
`;

const README = `# Helm chart of pg-events

Change events of PostgreSQL databases as a Kubernetes resource: the operator, its rights, and the
CustomResourceDefinition. Kubernetes 1.30 or newer, Helm 3.8 or newer.

\`\`\`sh
helm install pg-events charts/pg-events --namespace pg-events --create-namespace
helm test pg-events --namespace pg-events
\`\`\`

What to type next is printed by \`helm install\`. \`helm upgrade\` upgrades the CRD too; \`helm uninstall\` leaves it, and every
PgEventSource, in place unless \`crds.keep\` is false. How to run it, and what each alert means:
[operations](../../docs/operations.md), [runbooks](../../docs/runbooks/README.md).

With the Prometheus operator and Grafana's sidecar:

\`\`\`sh
helm upgrade pg-events charts/pg-events --namespace pg-events --reuse-values \\
  --set metrics.serviceMonitor.enabled=true --set metrics.workerPodMonitor.enabled=true \\
  --set metrics.prometheusRule.enabled=true --set metrics.dashboard.enabled=true
\`\`\`

## Values
Any other value is refused by \`helm install\`.`;

/** YAML as this repository keeps it: no folded lines, so that a diff shows one change in one line. */
export const yamlText = (value: unknown) => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });

/** crds/: for `kubectl apply` and for tests. */
export const crdFile = () => `${GENERATED_YAML}\n${yamlText(pgEventSourceCrd())}`;

/** The chart's copy: a template and not in the chart's crds/, because Helm never upgrades what is there. */
export function crdTemplate(): string {
  const text = yamlText(pgEventSourceCrd());
  if (text.includes("{{")) throw new Error("the CRD holds {{, which Helm would take for a template");
  const [head, body] = text.split(/(?<=^ {2}name: .*\n)/m);
  if (head === undefined || body === undefined) throw new Error("the CRD has no metadata.name");
  return `{{- /* ${GENERATED_YAML.slice(2)} */ -}}\n{{- if .Values.crds.enabled }}\n${head}${TEMPLATED_METADATA}${body}{{- end }}\n`;
}

/** charts/pg-events/values.yaml: every value with its default and what it is for. */
export function valuesFile(): string {
  const defaults = chartValues.parse({}) as Record<string, unknown>;
  return `${GENERATED_YAML}\n${valueLines(valuesJson(), defaults, "").join("\n")}\n`;
}

/** charts/pg-events/values.schema.json: Helm refuses a value that is not in it. */
export const valuesSchema = () => `${JSON.stringify(valuesJson(), null, 2)}\n`;

/** charts/pg-events/README.md */
export function chartReadme(): string {
  const all = fieldRows(valuesJson());
  const rows = all.filter((row) => !all.some((other) => other.path.startsWith(`${row.path}.`)));
  const cells = rows.map((row) => [code(row.path), row.type, row.default, row.limits, row.description]);
  const values = table(["Value", "Type", "Default", "Limits", "Description"], cells);
  return `${[GENERATED_MARKDOWN, README, values].join("\n\n")}\n`;
}

function valuesJson(): JsonSchema {
  return z.toJSONSchema(chartValues, { target: "draft-7", io: "input" }) as JsonSchema;
}

function valueLines(schema: JsonSchema, defaults: Record<string, unknown>, indent: string): string[] {
  const fields = Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>);
  return fields.flatMap(([name, field]) => {
    const comment = wrapped(String(field.description), LINE_LENGTH - indent.length - 2).map(
      (line) => `${indent}# ${line}`,
    );
    if (field.properties !== undefined) {
      return [
        ...comment,
        `${indent}${name}:`,
        ...valueLines(field, defaults[name] as Record<string, unknown>, `${indent}  `),
      ];
    }
    const value = yamlText({ [name]: defaults[name] })
      .trimEnd()
      .split("\n");
    return [...comment, ...value.map((line) => indent + line)];
  });
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
