/** The pods, Services and volumes of shop.ts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IMAGES } from "./images.ts";

export const SUPERUSER_PASSWORD = "superuser-secret-value";
const RECEIVER = readFileSync(join(import.meta.dirname, "receiver.mjs"), "utf8");

/** A volume of the node and the claim that takes it. */
export function persistentVolume(name: string, namespace: string, path: string): object[] {
  const common = { accessModes: ["ReadWriteOnce"], storageClassName: "" };
  return [
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: {
        ...common,
        capacity: { storage: "1Gi" },
        hostPath: { path },
        claimRef: { name, namespace },
      },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name },
      spec: { ...common, volumeName: name, resources: { requests: { storage: "1Gi" } } },
    },
  ];
}

const SECURITY = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/** PostgreSQL and its Service `db`. */
export function database(): object[] {
  const container = {
    name: "postgres",
    image: IMAGES.postgres,
    env: [{ name: "POSTGRES_PASSWORD", value: SUPERUSER_PASSWORD }],
    ports: [{ containerPort: 5432 }],
    readinessProbe: { tcpSocket: { port: 5432 }, periodSeconds: 1 },
    securityContext: { ...SECURITY, runAsNonRoot: true, runAsUser: 999 },
    volumeMounts: [{ name: "data", mountPath: "/data" }],
  };
  const volumes = [{ name: "data", persistentVolumeClaim: { claimName: "db" } }];
  return [
    workload("StatefulSet", "db", { serviceName: "db" }, { containers: [container], volumes }),
    service("db", 5432, 5432),
  ];
}

/** The receiver and its Service `receiver`. */
export function receiver(): object[] {
  const container = {
    name: "receiver",
    image: IMAGES.pgEvents,
    command: ["node", "/program/receiver.mjs"],
    ports: [{ containerPort: 8080 }],
    readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
    securityContext: { ...SECURITY, runAsNonRoot: true, runAsUser: 65532 },
    volumeMounts: [
      { name: "program", mountPath: "/program" },
      { name: "ledger", mountPath: "/ledger" },
    ],
  };
  const volumes = [
    { name: "program", configMap: { name: "receiver" } },
    { name: "ledger", persistentVolumeClaim: { claimName: "receiver" } },
  ];
  const data = { "receiver.mjs": RECEIVER };
  return [
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "receiver" }, data },
    workload("Deployment", "receiver", {}, { containers: [container], volumes }),
    service("receiver", 80, 8080),
  ];
}

function workload(kind: string, name: string, settings: object, pod: object): object {
  const labels = { app: name };
  const template = { metadata: { labels }, spec: { automountServiceAccountToken: false, ...pod } };
  return {
    apiVersion: "apps/v1",
    kind,
    metadata: { name },
    spec: { selector: { matchLabels: labels }, template, ...settings },
  };
}

function service(name: string, port: number, targetPort: number): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: { selector: { app: name }, ports: [{ port, targetPort }] },
  };
}
