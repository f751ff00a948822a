/** deploy/ with the real kubectl: plain manifests, overlays, and every sample on a real API server. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type KubernetesObject, objectsIn, only, renderChart } from "../support/chart.ts";
import { runTool } from "../support/cluster/tool.ts";
import { kubeconfig, kubectl } from "../support/kube-tools.ts";
import { readSamples } from "../support/samples.ts";

const DEPLOY = join(import.meta.dirname, "../../deploy");
const NAMESPACE = "samples";

const run = async (...args: string[]): Promise<string> =>
  runTool(await kubectl(), args, { kubeconfig: await kubeconfig() });
const built = async (overlay: string) => objectsIn(await run("kustomize", join(DEPLOY, overlay)));
const generations = async (): Promise<unknown[]> => {
  const { items } = JSON.parse(await run("get", "-k", DEPLOY, "-o", "json"));
  return items.map(({ metadata }: { metadata: { generation?: number } }) => metadata.generation);
};

before(async () => {
  await run("create", "namespace", NAMESPACE);
});
after(async () => {
  await run("delete", "namespace", NAMESPACE, "--wait=false");
});

describe("kubectl apply -k deploy", () => {
  test("works, and again without a change", async () => {
    const apply = ["apply", "--server-side", "--force-conflicts", "-k", DEPLOY];
    assert.match(await run(...apply), /deployment\.apps\/pg-events-operator serverside-applied/);
    const before = await generations();
    assert.ok(before.length >= 12);
    await run(...apply);
    assert.deepEqual(await generations(), before);
  });

  test("has nothing in it that speaks of Helm", async () => {
    assert.doesNotMatch(await run("kustomize", DEPLOY), /helm/i);
  });
});

describe("overlays are what the chart renders", () => {
  const overlays: [string, object][] = [
    [".", {}],
    [
      "overlays/monitoring",
      {
        metrics: {
          podMonitor: { enabled: true },
          workerPodMonitor: { enabled: true },
          prometheusRule: { enabled: true },
          dashboard: { enabled: true },
        },
      },
    ],
    ["overlays/own-image", { image: { repository: "registry.example.com/pg-events", tag: "1.2.3" } }],
    ["overlays/single-namespace", { watchNamespaces: ["pg-events"] }],
  ];
  for (const [overlay, values] of overlays) {
    test(overlay, async () => {
      const chart = await renderChart(values);
      const own = (await built(overlay)).filter(({ kind }) => kind !== "Namespace");
      const parts = ({ kind, metadata, spec, rules, roleRef, subjects, data }: KubernetesObject) => {
        const rest = JSON.stringify({ spec, rules, roleRef, subjects, data }, (key, value) =>
          HELM_KEYS.has(key) ? undefined : value,
        );
        return [`${kind} ${metadata.name}`, JSON.parse(rest)] as const;
      };
      assert.deepEqual(Object.fromEntries(own.map(parts)), Object.fromEntries(chart.map(parts)));
    });
  }

  test("the workers run the image that is set for the operator", async () => {
    const [container] = only(await built("overlays/own-image"), "Deployment").spec.template.spec.containers;
    const { value } = container.env.find(({ name }: { name: string }) => name === "PG_EVENTS_WORKER_IMAGE");
    assert.equal(container.image, "registry.example.com/pg-events:1.2.3");
    assert.equal(value, container.image);
  });
});

test("the API server takes every sample, and keeps what it says", async () => {
  const samples = join(DEPLOY, "samples");
  await run("apply", "--server-side", "--validate=strict", "-n", NAMESPACE, "-f", samples);
  const { items } = JSON.parse(await run("get", "pges", "-n", NAMESPACE, "-o", "json"));
  const stored = new Map(items.map(({ metadata, spec }: KubernetesObject) => [metadata.name, spec]));
  assert.equal(stored.size, readSamples().length);
  for (const { metadata, spec } of readSamples()) {
    // Besides what it says there are defaults.
    assert.partialDeepStrictEqual(stored.get(metadata.name), spec, metadata.name);
  }
});

/** Labels that only a release of Helm has. */
const HELM_KEYS = new Set(["helm.sh/chart", "app.kubernetes.io/managed-by"]);
