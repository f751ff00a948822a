import type { KubernetesObject } from "./chart.ts";
import type { ClusterRequests } from "./cluster-requests.ts";

const RESOURCES: Record<string, string> = {
  ServiceAccount: "/api/v1/namespaces/NS/serviceaccounts",
  Service: "/api/v1/namespaces/NS/services",
  ConfigMap: "/api/v1/namespaces/NS/configmaps",
  Secret: "/api/v1/namespaces/NS/secrets",
  Pod: "/api/v1/namespaces/NS/pods",
  Namespace: "/api/v1/namespaces",
  Deployment: "/apis/apps/v1/namespaces/NS/deployments",
  NetworkPolicy: "/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies",
  PodDisruptionBudget: "/apis/policy/v1/namespaces/NS/poddisruptionbudgets",
  Role: "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles",
  RoleBinding: "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
  ClusterRole: "/apis/rbac.authorization.k8s.io/v1/clusterroles",
  ClusterRoleBinding: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
  CustomResourceDefinition: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
  PgEventSource: "/apis/pgevents.dev/v1alpha1/namespaces/NS/pgeventsources",
};

/**
 * Server-side apply with strict field validation.
 * @returns what the server objects to, or null
 */
export async function applyObject(
  cluster: ClusterRequests,
  object: KubernetesObject,
  dryRun: boolean,
): Promise<string | null> {
  const resource = RESOURCES[object.kind];
  if (resource === undefined) throw new Error(`unknown kind ${object.kind}`);
  const path = `${resource.replace("NS", object.metadata.namespace ?? "default")}/${object.metadata.name}`;
  const query = `fieldManager=test&force=true&fieldValidation=Strict${dryRun ? "&dryRun=All" : ""}`;
  const { status, body } = await cluster.request("PATCH", `${path}?${query}`, {
    body: object,
    type: "application/apply-patch+yaml",
  });
  return status === 200 || status === 201 ? null : `${object.kind} ${object.metadata.name}: ${body.message}`;
}
