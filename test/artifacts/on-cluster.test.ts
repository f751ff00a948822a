import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { serveProbes } from "../../src/runtime/observability.ts";
import { type KubernetesObject, only, renderChart } from "../support/chart.ts";
import { VALUE_SETS } from "../support/chart-values.ts";
import { type ClusterRequests, clusterRequests } from "../support/cluster-requests.ts";
import { kubeconfig } from "../support/kube-tools.ts";
import { applyObject } from "../support/server-dry-run.ts";

/** Not pg-events: deploy.test.ts works there. */
const NAMESPACE = "pg-events-chart";
const NAMESPACES = [NAMESPACE, "shop", "billing", "warehouse"];
const OPERATOR = `system:serviceaccount:${NAMESPACE}:pg-events-operator`;

let cluster: ClusterRequests;

before(async () => {
  cluster = await clusterRequests(await kubeconfig());
  for (const name of NAMESPACES) {
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
    assert.equal(await applyObject(cluster, namespace, false), null);
  }
});

after(async () => {
  for (const name of NAMESPACES) await cluster.request("DELETE", `/api/v1/namespaces/${name}`);
  cluster.close();
});

describe("the API server takes every object of the chart", () => {
  for (const [title, values] of Object.entries(VALUE_SETS)) {
    test(title, async () => {
      const objects = await renderChart(values, { namespace: NAMESPACE, tests: true });
      const known = objects.filter(({ apiVersion }) => !apiVersion.startsWith("monitoring.coreos.com/"));
      const remarks = await Promise.all(known.map((object) => applyObject(cluster, runnable(object), true)));
      assert.deepEqual(
        remarks.filter((remark) => remark !== null),
        [],
      );
    });
  }
});

describe("the installed chart", () => {
  before(async () => {
    for (const object of await renderChart({}, { namespace: NAMESPACE, tests: true })) {
      if (object.kind === "Pod" || object.kind === "Deployment") continue;
      assert.equal(await applyObject(cluster, object, false), null);
    }
  });

  test("pods of operator and check pass the admission of a restricted namespace", async () => {
    const objects = await renderChart({}, { namespace: NAMESPACE, tests: true });
    const { template } = only(objects, "Deployment").spec;
    const operator = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "operator", namespace: NAMESPACE },
      spec: template.spec,
    };
    assert.equal(await applyObject(cluster, operator, true), null);
    assert.equal(await applyObject(cluster, runnable(only(objects, "Pod")), true), null);
  });

  const rights: [
    boolean,
    string,
    string,
    string,
    { name?: string; subresource?: string; namespace?: string },
  ][] = [
    [true, "get", "", "secrets", { name: "shop-db" }],
    [false, "list", "", "secrets", {}],
    [false, "watch", "", "secrets", {}],
    [false, "create", "", "secrets", {}],
    [true, "watch", "pgevents.dev", "pgeventsources", {}],
    [true, "patch", "pgevents.dev", "pgeventsources", {}],
    [true, "patch", "pgevents.dev", "pgeventsources", { subresource: "status" }],
    [false, "create", "pgevents.dev", "pgeventsources", {}],
    [false, "delete", "pgevents.dev", "pgeventsources", {}],
    [true, "create", "apps", "deployments", {}],
    [true, "delete", "apps", "deployments", {}],
    [false, "create", "", "pods", {}],
    [false, "create", "", "pods", { subresource: "exec" }],
    [false, "get", "", "configmaps", {}],
    [false, "create", "", "serviceaccounts", { subresource: "token" }],
    [false, "create", "rbac.authorization.k8s.io", "roles", {}],
    [true, "create", "", "events", {}],
    [true, "update", "coordination.k8s.io", "leases", { name: "pg-events-operator", namespace: NAMESPACE }],
    [false, "update", "coordination.k8s.io", "leases", { name: "other", namespace: NAMESPACE }],
    [false, "update", "coordination.k8s.io", "leases", { name: "pg-events-operator" }],
  ];
  for (const [allowed, verb, group, resource, where] of rights) {
    const what = [group, resource, where.subresource, where.name].filter(Boolean).join("/");
    test(`the operator ${allowed ? "may" : "may not"} ${verb} ${what} in ${where.namespace ?? "shop"}`, async () => {
      const resourceAttributes = { namespace: "shop", verb, group, resource, ...where };
      const { body } = await cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
        body: {
          spec: {
            user: OPERATOR,
            groups: ["system:serviceaccounts", "system:authenticated"],
            resourceAttributes,
          },
        },
      });
      assert.equal(body.status.allowed, allowed, JSON.stringify(body.status));
    });
  }

  test("what `helm test` runs passes, with the rights of its own account", async () => {
    const probes = await serveProbes("127.0.0.1:0", { live: {}, ready: {} });
    try {
      // Not execFileSync: the probes that it asks are served by this process.
      const { stdout: output } = await promisify(execFile)(
        process.execPath,
        [
          "--input-type=module",
          "--eval",
          checkOf(await renderChart({}, { namespace: NAMESPACE, tests: true })),
        ],
        {
          encoding: "utf8",
          env: { ...process.env, ...(await checkEnvironment(`http://127.0.0.1:${probes.port}`)) },
        },
      );
      assert.equal(output.match(/^ok: /gm)?.length, 3, output);
    } finally {
      await probes.close();
    }
  });
});

/** As rendered, but without what a bare API server does not have. */
function runnable(object: KubernetesObject): KubernetesObject {
  return object.kind === "Pod"
    ? { ...object, spec: { ...object.spec, serviceAccountName: "default" } }
    : object;
}

const checkOf = (objects: KubernetesObject[]): string => only(objects, "Pod").spec.containers[0].args[2];

async function checkEnvironment(probes: string): Promise<Record<string, string>> {
  const { mkdtempSync, writeFileSync } = await import("node:fs");
  const { tmpdir } = await import("node:os");
  const { body } = await cluster.request(
    "POST",
    `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/pg-events-test/token`,
    { body: { spec: {} } },
  );
  const file = join(mkdtempSync(join(tmpdir(), "pg-events-token-")), "token");
  writeFileSync(file, body.status.token, { mode: 0o600 });
  return {
    API_SERVER: cluster.server,
    OPERATOR_PROBES: probes,
    POD_NAMESPACE: NAMESPACE,
    TOKEN_FILE: file,
    NODE_TLS_REJECT_UNAUTHORIZED: "0",
    NODE_NO_WARNINGS: "1",
  };
}
