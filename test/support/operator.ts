/** The operator as a real process with the arguments, and the rights, that the chart gives it. */
import { randomBytes } from "node:crypto";
import { pgEventSourceCrd } from "../../scripts/generate/crd.ts";
import { type KubernetesObject, only, renderChart } from "./chart.ts";
import { freePort } from "./cluster/free-port.ts";
import { type ClusterRequests, clusterRequests } from "./cluster-requests.ts";
import { type ControlPlane, serviceAccountKubeconfig } from "./control-plane.ts";
import type { TestEnd } from "./postgres.ts";
import { type CliProcess, eventually, startCli } from "./processes.ts";
import { applyObject } from "./server-dry-run.ts";

/** What a bare API server takes of the chart: its pods need a node. */
const NOT_INSTALLED = ["Deployment", "Pod", "Service", "NetworkPolicy", "PodDisruptionBudget"];

export interface Installation {
  readonly namespace: string;
  readonly account: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface RunningOperator extends CliProcess {
  readonly metricsUrl: string;
  readonly probesUrl: string;
}

/** Installs the CRD and the chart's account and rights in a namespace of their own; removed after the test. */
export async function installChart(
  t: TestEnd,
  plane: ControlPlane,
  values: object = {},
): Promise<Installation> {
  const cluster = await clusterRequests(plane.kubeconfig);
  const namespace = `operator-${randomBytes(4).toString("hex")}`;
  await must(
    applyObject(cluster, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, false),
  );
  await establishCrd(cluster);
  const objects = await renderChart({ crds: { enabled: false }, ...values }, { namespace });
  const installed = objects.filter(({ kind }) => !NOT_INSTALLED.includes(kind));
  for (const object of installed) await must(applyObject(cluster, object, false));
  t.after(async () => {
    for (const { kind, metadata } of installed) {
      const plural = `${kind.toLowerCase()}s`;
      if (kind.startsWith("Cluster"))
        await cluster.request("DELETE", `/apis/rbac.authorization.k8s.io/v1/${plural}/${metadata.name}`);
    }
    await cluster.request("DELETE", `/api/v1/namespaces/${namespace}`);
    cluster.close();
  });
  const container = only(objects, "Deployment").spec.template.spec.containers[0];
  const variables = container.env as { name: string; value?: string }[];
  return {
    namespace,
    account: only(objects, "ServiceAccount").metadata.name,
    args: container.args as string[],
    env: Object.fromEntries(variables.map(({ name, value }) => [name, value ?? namespace])), // POD_NAMESPACE
  };
}

/**
 * Starts an operator process of an installation; killed after the test. Later flags win over the chart's.
 * @param cli the program of another checkout
 */
export async function startOperator(
  t: TestEnd,
  plane: ControlPlane,
  { namespace, account, args, env }: Installation,
  flags: readonly string[] = [],
  cli?: string,
): Promise<RunningOperator> {
  const kubeconfig = await serviceAccountKubeconfig(plane, namespace, account);
  const metrics = `127.0.0.1:${await freePort()}`;
  const probes = `127.0.0.1:${await freePort()}`;
  const own = [
    `--kubeconfig=${kubeconfig}`,
    `--metrics-address=${metrics}`,
    `--probes-address=${probes}`,
    ...flags,
  ];
  const operator = startCli(t, [...args, ...own], {
    env: { ...env, KUBECONFIG: undefined },
    ...(cli === undefined ? {} : { cli }),
  });
  const urls = { metricsUrl: `http://${metrics}/metrics`, probesUrl: `http://${probes}` };
  return Object.defineProperties(urls, Object.getOwnPropertyDescriptors(operator)) as RunningOperator;
}

/** Waits until the operator says that it is ready. */
export async function ready(operator: RunningOperator): Promise<void> {
  await eventually(
    async () => {
      const answer = await fetch(`${operator.probesUrl}/readyz`);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${text}${operator.stderr}`);
      return true;
    },
    { what: "the operator to be ready", timeoutMs: 60_000 },
  );
}

/** The sum of the samples whose name matches. */
export function total(samples: Map<string, number>, name: RegExp): number {
  return [...samples].filter(([key]) => name.test(key)).reduce((sum, [, value]) => sum + value, 0);
}

/** The samples of a scrape, `name{labels}` → value. */
export async function scrape(url: string): Promise<Map<string, number>> {
  const text = await (await fetch(url)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(" ")),
      Number(line.slice(line.lastIndexOf(" ") + 1)),
    ]),
  );
}

async function establishCrd(cluster: ClusterRequests): Promise<void> {
  const crd = pgEventSourceCrd() as unknown as KubernetesObject;
  await must(applyObject(cluster, crd, false));
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crd.metadata.name}`;
  await eventually(async () => {
    const { body } = await cluster.request("GET", path);
    return body.status?.conditions?.some(
      ({ type, status }: { type: string; status: string }) => type === "Established" && status === "True",
    );
  });
}

async function must(remark: Promise<string | null>): Promise<void> {
  const text = await remark;
  if (text !== null) throw new Error(text);
}
