/**
 * What a user of pg-events has in the cluster before it is installed: a namespace that enforces the restricted
 * Pod Security Standard, PostgreSQL in a pod behind the Service `db`, and a receiver behind the Service
 * `receiver`, which writes down each delivery before it answers.
 */
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { stringify } from "yaml";
import { eventually } from "../../processes.ts";
import { IMAGES } from "./images.ts";
import type { TestNode } from "./node.ts";

export const NAMESPACE = "shop";
export const TOKEN = "Bearer token-of-the-receiver";
const FIRST_PASSWORD = "first-password-of-shop";
const SUPERUSER_PASSWORD = "superuser-secret-value";
const RECEIVER = readFileSync(join(import.meta.dirname, "receiver.mjs"), "utf8");
const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };

/** A delivery as the receiver wrote it down. */
export interface Delivery {
  readonly id: string;
  readonly operation: string;
  readonly new: { readonly id: number; readonly version: number };
  readonly authorization: string;
  readonly host: string;
}

export interface Shop {
  /** How the application's role logs in, through the Service's address. */
  connection(): pg.ClientConfig;
  /** Every delivery so far, in the order of arrival. */
  deliveries(): Delivery[];
  /** Runs statements as a superuser. */
  asSuperuser(...statements: string[]): Promise<void>;
  /** Sets the password of the application's role. */
  setPassword(password: string): Promise<void>;
  /** kubectl in the shop's namespace. */
  kubectl(...args: string[]): Promise<string>;
  apply(...objects: object[]): Promise<void>;
}

/** Returns when database and receiver are ready; the database has the table `orders`. */
export async function openShop(node: TestNode): Promise<Shop> {
  const run = (...args: string[]) => node.kubectl([...args, "--namespace", NAMESPACE]);
  const apply = async (...objects: object[]) => {
    const input = objects.map((object) => stringify(object)).join("---\n");
    await node.kubectl(["apply", "--namespace", NAMESPACE, "--filename", "-"], { input });
  };
  const volume = (name: string) => {
    const path = join(node.directory, `volume-${name}`);
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o777);
    return persistentVolume(name, path);
  };
  await apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE, labels: RESTRICTED } });
  await apply(...volume("db"), ...volume("receiver"), ...database(), ...receiver());
  await run("rollout", "status", "statefulset/db", "deployment/receiver", "--timeout=120s");

  const address = (await run("get", "service/db", "--output=jsonpath={.spec.clusterIP}")).trim();
  const login = (user: string, database: string, password: string): pg.ClientConfig => ({
    host: address,
    port: 5432,
    user,
    database,
    password,
    connectionTimeoutMillis: 3000,
    application_name: "test",
  });
  let password = FIRST_PASSWORD;
  const shop: Shop = {
    connection: () => login("shop", "shop", password),
    deliveries: () => readDeliveries(join(node.directory, "volume-receiver/deliveries.jsonl")),
    asSuperuser: (...statements) => execute(login("postgres", "postgres", SUPERUSER_PASSWORD), statements),
    async setPassword(next) {
      await shop.asSuperuser(`alter role shop password '${next}'`);
      password = next;
    },
    kubectl: run,
    apply,
  };
  await eventually(() => shop.asSuperuser("select 1").then(() => true), { what: "the database's Service" });
  await shop.asSuperuser(`create role shop login password '${password}'`, "create database shop owner shop");
  await execute(shop.connection(), [
    "create table orders (id integer primary key, version integer not null)",
  ]);
  return shop;
}

async function execute(config: pg.ClientConfig, statements: readonly string[]): Promise<void> {
  const client = new pg.Client(config);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

function readDeliveries(path: string): Delivery[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Delivery);
}

/** A volume of the node and the claim that takes it. */
function persistentVolume(name: string, path: string): object[] {
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
        claimRef: { name, namespace: NAMESPACE },
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

/** The Secrets and the PgEventSource that a user writes. */
export function shopSource(password = FIRST_PASSWORD): object[] {
  const secret = (name: string, stringData: object, labels: object = {}) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, labels },
    stringData,
  });
  const login = { host: "db.shop.svc", port: "5432", dbname: "shop", username: "shop", password };
  const http = {
    ref: { name: "receiver", port: 80, path: "/events" },
    headers: [{ name: "Authorization", secretKeyRef: { name: "receiver", key: "token" } }],
  };
  return [
    secret("shop-db", login),
    secret("receiver", { token: TOKEN }, { "pgevents.dev/allow": "true" }),
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop" },
      spec: {
        database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } },
        callbacks: [{ name: "receiver", http }],
      },
    },
  ];
}

const SECURITY = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

function database(): object[] {
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

function receiver(): object[] {
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
