import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type KubernetesObject, only, renderChart } from "../support/chart.ts";

interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}

/** The whole of what the operator may do. A line added here is a right given away: say why in the pull request. */
const OPERATOR_RULES: Rule[] = [
  { apiGroups: ["pgevents.dev"], resources: ["pgeventsources"], verbs: ["get", "list", "watch", "patch"] },
  { apiGroups: ["pgevents.dev"], resources: ["pgeventsources/status"], verbs: ["patch"] },
  { apiGroups: ["pgevents.dev"], resources: ["pgeventsources/finalizers"], verbs: ["update"] },
  { apiGroups: [""], resources: ["secrets"], verbs: ["get"] },
  // The SQL to run with `install: Manual`; under a name of its own, so that none has to be changed.
  { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
  // What a callback refers to.
  { apiGroups: [""], resources: ["services"], verbs: ["get"] },
  {
    apiGroups: ["apps"],
    resources: ["deployments"],
    verbs: ["get", "list", "watch", "create", "patch", "delete"],
  },
  { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
];

const LEASE_RULES: Rule[] = [
  {
    apiGroups: ["coordination.k8s.io"],
    resources: ["leases"],
    resourceNames: ["pg-events-operator"],
    verbs: ["get", "update"],
  },
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["create"] },
];

const ACCOUNT = { kind: "ServiceAccount", name: "pg-events-operator", namespace: "pg-events" };

describe("rights in every namespace", () => {
  test("are these and no others", async () => {
    const objects = await renderChart({});
    assert.deepEqual(only(objects, "ClusterRole", "pg-events-pg-events-operator").rules, OPERATOR_RULES);
    assert.deepEqual(only(objects, "Role").rules, LEASE_RULES);
    assert.deepEqual(bindingsOf(objects), [
      "ClusterRole/pg-events-pg-events-operator",
      "Role/pg-events-operator-leader-election",
    ]);
  });
});

describe("rights in some namespaces", () => {
  test("are a Role in each; the operator gets no ClusterRole", async () => {
    const objects = await renderChart({ watchNamespaces: ["shop", "billing"] });
    for (const namespace of ["shop", "billing"]) {
      const here = objects.filter((object) => object.metadata.namespace === namespace);
      assert.deepEqual(
        here.map(({ kind }) => kind),
        ["Role", "RoleBinding"],
      );
      assert.deepEqual(only(here, "Role").rules, OPERATOR_RULES);
    }
    assert.equal(objects.filter(({ kind }) => kind === "ClusterRoleBinding").length, 0);
    assert.equal(bindingsOf(objects).length, 3);
  });
});

describe("rights on what callbacks refer to", () => {
  const callbacks = { namespaces: ["billing", "warehouse"], addressableClusterRole: "addressable-resolver" };

  test("in some namespaces are Services there, and the objects that a ClusterRole of others names", async () => {
    const objects = await renderChart({ watchNamespaces: ["shop", "billing"], callbacks });
    const there = objects.filter(({ metadata }) => metadata.namespace === "warehouse");
    assert.deepEqual(only(there, "Role").rules, [
      { apiGroups: [""], resources: ["services"], verbs: ["get"] },
    ]);
    const addressables = objects.filter(({ roleRef }) => roleRef?.name === "addressable-resolver");
    assert.deepEqual(
      addressables.map(({ kind, metadata }) => `${kind} ${metadata.namespace}`),
      ["RoleBinding shop", "RoleBinding billing", "RoleBinding warehouse"],
    );
    assert.equal(bindingsOf(objects).length, 7);
  });

  test("in every namespace are a binding of that ClusterRole", async () => {
    const bindings = bindingsOf(await renderChart({ callbacks }));
    assert.ok(bindings.includes("ClusterRole/addressable-resolver"));
    assert.equal(bindings.length, 3);
  });
});

describe("rights of users", () => {
  test("view reads, edit writes, neither touches anything else", async () => {
    const objects = await renderChart({});
    const view = only(objects, "ClusterRole", "pg-events-pg-events-view");
    const edit = only(objects, "ClusterRole", "pg-events-pg-events-edit");
    assert.equal(view.metadata.labels?.["rbac.authorization.k8s.io/aggregate-to-view"], "true");
    assert.equal(edit.metadata.labels?.["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    assert.equal(edit.metadata.labels?.["rbac.authorization.k8s.io/aggregate-to-view"], undefined);
    assert.deepEqual(view.rules, [
      {
        apiGroups: ["pgevents.dev"],
        resources: ["pgeventsources", "pgeventsources/status", "pgeventsources/scale"],
        verbs: ["get", "list", "watch"],
      },
    ]);
    assert.deepEqual(edit.rules, [
      {
        apiGroups: ["pgevents.dev"],
        resources: ["pgeventsources", "pgeventsources/scale"],
        verbs: ["create", "update", "patch", "delete", "deletecollection"],
      },
    ]);
  });

  test("let only admins write with aggregateToEdit false", async () => {
    const edit = only(
      await renderChart({ rbac: { aggregateToEdit: false } }),
      "ClusterRole",
      "pg-events-pg-events-edit",
    );
    assert.equal(edit.metadata.labels?.["rbac.authorization.k8s.io/aggregate-to-edit"], undefined);
    assert.equal(edit.metadata.labels?.["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
  });

  test("are left alone when the values say so", async () => {
    const rbac = { aggregateToView: false, aggregateToEdit: false, aggregateToAdmin: false };
    const objects = await renderChart({ rbac });
    assert.deepEqual(
      objects.filter(({ kind }) => kind === "ClusterRole").map(({ metadata }) => metadata.name),
      ["pg-events-pg-events-operator"],
    );
  });
});

test("rbac.create false leaves every binding to somebody else", async () => {
  const kinds = (await renderChart({ rbac: { create: false } })).map(({ kind }) => kind);
  assert.ok(!kinds.some((kind) => kind.endsWith("Binding") || kind === "Role"));
});

/** The roles that are bound, each to the operator's account and nobody else. */
function bindingsOf(objects: KubernetesObject[]): string[] {
  const bindings = objects.filter(({ kind }) => kind.endsWith("RoleBinding"));
  for (const { subjects } of bindings) assert.deepEqual(subjects, [ACCOUNT]);
  return bindings.map(({ roleRef }) => `${roleRef.kind}/${roleRef.name}`);
}
