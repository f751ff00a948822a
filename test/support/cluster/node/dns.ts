/** CoreDNS as an installation of Kubernetes has it: a Deployment behind the Service kube-dns. */
import { stringify } from "yaml";
import { IMAGES } from "./images.ts";

/** In the Services' network of components.ts. */
export const DNS_ADDRESS = "10.0.0.10";

const NAMESPACE = "kube-system";
const LABELS = { "k8s-app": "kube-dns" };
const COREFILE = `.:53 {
  errors
  health :8080
  ready :8181
  kubernetes cluster.local in-addr.arpa {
    pods insecure
    ttl 5
  }
  cache 5
}
`;

/** YAML for kubectl apply. */
export function dnsManifests(): string {
  return [account(), role(), binding(), config(), deployment(), service()]
    .map((object) => stringify(object))
    .join("---\n");
}

const named = (name: string) => ({ name, namespace: NAMESPACE });

const account = () => ({ apiVersion: "v1", kind: "ServiceAccount", metadata: named("coredns") });

const role = () => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRole",
  metadata: { name: "system:coredns" },
  rules: [
    { apiGroups: [""], resources: ["services", "pods", "namespaces"], verbs: ["list", "watch"] },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
  ],
});

const binding = () => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRoleBinding",
  metadata: { name: "system:coredns" },
  roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:coredns" },
  subjects: [{ kind: "ServiceAccount", ...named("coredns") }],
});

const config = () => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: named("coredns"),
  data: { Corefile: COREFILE },
});

const deployment = () => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: named("coredns"),
  spec: {
    selector: { matchLabels: LABELS },
    template: {
      metadata: { labels: LABELS },
      spec: {
        serviceAccountName: "coredns",
        containers: [
          {
            name: "coredns",
            image: IMAGES.coredns,
            args: ["-conf", "/etc/coredns/Corefile"],
            readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 1 },
            // Its user is not root, and the port is below 1024.
            securityContext: { runAsUser: 0 },
            volumeMounts: [{ name: "config", mountPath: "/etc/coredns" }],
          },
        ],
        volumes: [{ name: "config", configMap: { name: "coredns" } }],
      },
    },
  },
});

const service = () => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: named("kube-dns"),
  spec: {
    clusterIP: DNS_ADDRESS,
    selector: LABELS,
    ports: [
      { name: "dns", port: 53, protocol: "UDP" },
      { name: "dns-tcp", port: 53, protocol: "TCP" },
    ],
  },
});
