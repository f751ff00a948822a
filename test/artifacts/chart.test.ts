import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { CHART, type KubernetesObject, objectsIn, only, renderChart, runHelm } from "../support/chart.ts";
import { VALUE_SETS } from "../support/chart-values.ts";

describe("helm lint", () => {
  for (const [title, values] of Object.entries(VALUE_SETS)) {
    test(title, async () => {
      const { status, output } = await runHelm(["lint", CHART, "--strict"], values);
      assert.equal(status, 0, output);
    });
  }
});

describe("every set of values", () => {
  for (const [title, values] of Object.entries(VALUE_SETS)) {
    test(`${title}: names fit, labels are the chart's own, the selector finds the pods`, async () => {
      const objects = await renderChart(values, { tests: true });
      for (const { kind, metadata } of objects) {
        assert.ok(metadata.name.length <= (kind.includes("Role") ? 253 : 63), `${kind} ${metadata.name}`);
        assert.ok(!Object.values(metadata.labels ?? {}).includes("must-not-win"), `${kind} ${metadata.name}`);
        assert.equal(
          metadata.labels?.["app.kubernetes.io/instance"],
          "pg-events",
          `${kind} ${metadata.name}`,
        );
      }
      const { selector, template } = only(objects, "Deployment").spec;
      for (const [key, value] of Object.entries(selector.matchLabels))
        assert.equal(template.metadata.labels[key], value);
      const identities = objects.map(
        ({ kind, metadata }) => `${kind}/${metadata.namespace ?? ""}/${metadata.name}`,
      );
      assert.deepEqual(identities, [...new Set(identities)]);
    });

    test(`${title}: pods meet the restricted Pod Security Standard`, async () => {
      const objects = await renderChart(values, { tests: true });
      const pods = objects.flatMap((object) =>
        object.kind === "Pod" ? [object.spec] : (object.spec?.template?.spec ?? []),
      );
      assert.ok(pods.length >= 1);
      for (const pod of pods) assertRestricted(pod);
    });
  }
});

describe("values that helm refuses", () => {
  const refused: [string, object, RegExp][] = [
    ["an unknown value", { replicas: 2 }, /additional properties 'replicas' not allowed/],
    [
      "an unknown value inside of a group",
      { image: { name: "x" } },
      /additional properties 'name' not allowed/,
    ],
    ["a wrong type", { replicaCount: "2" }, /replicaCount.*got string, want integer/s],
    ["a digest that is none", { image: { digest: "latest" } }, /digest/],
    ["a namespace that is no name", { watchNamespaces: ["a,b"] }, /watchNamespaces/],
    [
      "a lease shorter than its renewal",
      { leaderElection: { leaseDurationSeconds: 10 } },
      /must be greater than renewDeadlineSeconds/,
    ],
    [
      "a renewal shorter than its retry",
      { leaderElection: { retryPeriodSeconds: 10 } },
      /greater than retryPeriodSeconds/,
    ],
    ["no account at all", { serviceAccount: { create: false } }, /serviceAccount\.name must be set/],
    [
      "a ServiceMonitor without Service",
      { metrics: { service: { enabled: false }, serviceMonitor: { enabled: true } } },
      /needs metrics\.service\.enabled/,
    ],
    [
      "two monitors of the operator",
      { metrics: { serviceMonitor: { enabled: true }, podMonitor: { enabled: true } } },
      /every metric would be there twice/,
    ],
    [
      "an alert to leave out that is none",
      { metrics: { prometheusRule: { enabled: true, disabled: ["PgEventsLagging"] } } },
      /there is no alert PgEventsLagging; there are PgEventsDeliveryLagging, /,
    ],
  ];
  for (const [title, values, message] of refused) {
    test(title, async () => {
      const { status, output } = await runHelm(["template", "pg-events", CHART], values);
      assert.notEqual(status, 0, "helm rendered it");
      assert.match(output, message);
    });
  }
});

describe("the operator's Deployment", () => {
  const operator = async (values: object) => only(await renderChart(values), "Deployment").spec.template.spec;

  test("runs the operator with the values as options", async () => {
    const { containers } = await operator({});
    assert.deepEqual(containers[0].args, [
      "operator",
      "--leader-election-id=pg-events-operator",
      "--lease-duration-seconds=15",
      "--renew-deadline-seconds=10",
      "--retry-period-seconds=2",
      "--metrics-address=:9090",
      "--probes-address=:8081",
      "--max-concurrent-reconciles=5",
      "--resync-seconds=60",
      "--require-secret-label=true",
      "--image-pull-policy=IfNotPresent",
      "--log-level=Info",
    ]);
  });

  test("passes the namespaces on, and every other value", async () => {
    const { args } = (await operator({ ...VALUE_SETS.everything, watchNamespaces: ["a", "b"] }))
      .containers[0];
    assert.ok(args.includes("--namespaces=a,b"));
    assert.ok(args.includes("--leader-election-id=lease"));
    assert.ok(args.includes("--require-secret-label=false"));
    assert.equal(args.at(-1), "--log-level=Error", "extraArgs come last, so that they win");
  });

  test("starts workers from its own image, by digest when there is one", async () => {
    for (const [values, image] of [
      [{}, "ghcr.io/pg-events/pg-events:0.1.0"],
      [{ image: { tag: "9" } }, "ghcr.io/pg-events/pg-events:9"],
      [VALUE_SETS.everything, `registry.example.com/x/pg-events@sha256:${"a".repeat(64)}`],
    ] as const) {
      const [container] = (await operator(values ?? {})).containers;
      assert.equal(container.image, image);
      assert.equal(valueIn(container.env, "PG_EVENTS_WORKER_IMAGE"), image);
    }
  });

  test("mounts a token that ends, at the usual place", async () => {
    const { automountServiceAccountToken, volumes, containers } = await operator({});
    assert.equal(automountServiceAccountToken, false);
    const volume = volumes.find(({ name }: { name: string }) => name === "api-access");
    assert.equal(volume.projected.sources[0].serviceAccountToken.expirationSeconds, 3607);
    const mount = containers[0].volumeMounts.find(({ name }: { name: string }) => name === "api-access");
    assert.equal(mount.mountPath, "/var/run/secrets/kubernetes.io/serviceaccount");
  });

  test("is probed for life and for readiness at different paths", async () => {
    const [container] = (await operator({})).containers;
    assert.deepEqual(container.ports, [
      { name: "metrics", containerPort: 9090 },
      { name: "probes", containerPort: 8081 },
    ]);
    assert.deepEqual(container.livenessProbe.httpGet, { path: "/livez", port: "probes" });
    assert.deepEqual(container.readinessProbe.httpGet, { path: "/readyz", port: "probes" });
  });
});

describe("what is rendered only on a condition", () => {
  const kinds = async (values: object) => (await renderChart(values)).map(({ kind }) => kind);

  test("a disruption budget only for more than one replica", async () => {
    assert.ok((await kinds({ replicaCount: 2 })).includes("PodDisruptionBudget"));
    assert.ok(!(await kinds({ replicaCount: 1 })).includes("PodDisruptionBudget"));
  });

  test("the CRD with crds.enabled; it survives an uninstall with crds.keep", async () => {
    const policy = async (crds: object) =>
      only(await renderChart({ crds }), "CustomResourceDefinition").metadata.annotations?.[
        "helm.sh/resource-policy"
      ];
    assert.equal(await policy({}), "keep");
    assert.equal(await policy({ keep: false }), undefined);
    assert.ok(!(await kinds({ crds: { enabled: false } })).includes("CustomResourceDefinition"));
  });

  test("a ServiceMonitor with the labels a Prometheus looks for", async () => {
    assert.ok(!(await kinds({})).includes("ServiceMonitor"));
    const objects = await renderChart({
      metrics: { serviceMonitor: { enabled: true, labels: { release: "prometheus" } } },
    });
    const monitor = only(objects, "ServiceMonitor");
    assert.equal(monitor.metadata.labels?.release, "prometheus");
    assert.equal(monitor.spec.endpoints[0].port, "metrics");
    for (const [key, value] of Object.entries(monitor.spec.selector.matchLabels)) {
      assert.equal(only(objects, "Service").metadata.labels?.[key], value);
    }
  });

  test("a monitor of the workers, in the namespaces that are watched", async () => {
    const metrics = { workerPodMonitor: { enabled: true } };
    const { spec } = only(await renderChart({ metrics }), "PodMonitor");
    assert.deepEqual(spec.namespaceSelector, { any: true });
    const some = only(await renderChart({ watchNamespaces: ["shop"], metrics }), "PodMonitor");
    assert.deepEqual(some.spec.namespaceSelector, { matchNames: ["shop"] });
  });

  test("a NetworkPolicy that lets out to DNS, the API server and databases only", async () => {
    const { ingress, egress } = only(await renderChart({}), "NetworkPolicy").spec;
    assert.deepEqual(
      ingress[0].ports.map(({ port }: { port: string }) => port),
      ["metrics", "probes"],
    );
    const ports = egress.flatMap((rule: { ports: { port: number }[] }) => rule.ports.map(({ port }) => port));
    assert.deepEqual([...new Set(ports)], [53, 443, 6443, 5432]);
  });
});

test("the chart's CRD is the one in crds/", async () => {
  const [own] = objectsIn(readFileSync(`${CHART}/../../crds/pgevents.dev_pgeventsources.yaml`, "utf8"));
  assert.deepEqual(only(await renderChart({}), "CustomResourceDefinition").spec, own?.spec);
});

describe("the notes", () => {
  const notes = async (values: object) => {
    const args = ["install", "pg-events", CHART, "--dry-run=client", "--namespace", "events"];
    const { output } = await runHelm(args, values);
    return output.slice(output.indexOf("NOTES:"));
  };

  test("name the next command", async () => {
    const text = await notes({});
    assert.match(text, /kubectl --namespace events rollout status deployment\/pg-events-operator/);
    assert.doesNotMatch(text, /metrics\./);
    const manifest = /<<'EOF'\n([\s\S]*?)\n {2}EOF/.exec(text)?.[1] ?? "";
    assert.equal(only(objectsIn(manifest), "PgEventSource").metadata.name, "shop");
  });

  test("say what alerts need and lack", async () => {
    const text = await notes({ metrics: { prometheusRule: { enabled: true } } });
    assert.match(text, /metrics\.workerPodMonitor sets; it is not enabled/);
    assert.match(text, /metrics\.serviceMonitor or metrics\.podMonitor; neither is enabled/);
  });
});

function assertRestricted(pod: KubernetesObject["spec"]): void {
  assert.equal(pod.securityContext.runAsNonRoot, true);
  assert.equal(pod.securityContext.seccompProfile.type, "RuntimeDefault");
  assert.equal(pod.automountServiceAccountToken, false);
  for (const container of pod.containers) {
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  }
}

const valueIn = (env: { name: string; value: string }[], name: string) =>
  env.find((entry) => entry.name === name)?.value;
