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
import type { TestNode } from "./node.ts";
import { database, persistentVolume, receiver, SUPERUSER_PASSWORD } from "./shop-objects.ts";

export const NAMESPACE = "shop";
export const TOKEN = "Bearer token-of-the-receiver";
const FIRST_PASSWORD = "first-password-of-shop";
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
  /** Runs statements as the application's role in a database. */
  asOwner(database: string, ...statements: string[]): Promise<void>;
  /** What of capture is in the database: its schema and triggers. */
  captureLeft(): Promise<string[]>;
  /** Runs statements as a superuser. */
  asSuperuser(...statements: string[]): Promise<void>;
  /** Sets the password of the application's role. */
  setPassword(password: string): Promise<void>;
  /** The Secrets and the PgEventSource that a user writes, with the password of now. @param callbacks default: the receiver */
  source(database?: string, callbacks?: readonly object[]): object[];
  /** kubectl in the shop's namespace. */
  kubectl(...args: string[]): Promise<string>;
  apply(...objects: object[]): Promise<void>;
  applyIn(namespace: string, ...objects: object[]): Promise<void>;
}

/** Returns when database and receiver are ready; the database has the table `orders`. */
export async function openShop(node: TestNode): Promise<Shop> {
  const run = (...args: string[]) => node.kubectl([...args, "--namespace", NAMESPACE]);
  const applyIn = async (namespace: string, ...objects: object[]) => {
    const input = objects.map((object) => stringify(object)).join("---\n");
    await node.kubectl(["apply", "--namespace", namespace, "--filename", "-"], { input });
  };
  const apply = (...objects: object[]) => applyIn(NAMESPACE, ...objects);
  const volume = (name: string) => {
    const path = join(node.directory, `volume-${name}`);
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o777);
    return persistentVolume(name, NAMESPACE, path);
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
    async asOwner(database, ...statements) {
      await execute(login("shop", database, password), statements);
    },
    async captureLeft() {
      const found = await execute(shop.connection(), [
        "select nspname as name from pg_namespace where nspname like 'pgevents%' union all select tgname from pg_trigger where not tgisinternal",
      ]);
      return found.map(({ name }) => String(name));
    },
    asSuperuser: async (...statements) =>
      void (await execute(login("postgres", "postgres", SUPERUSER_PASSWORD), statements)),
    async setPassword(next) {
      await shop.asSuperuser(`alter role shop password '${next}'`);
      password = next;
    },
    source: (database = "shop", callbacks) => sourceObjects(password, database, callbacks),
    kubectl: run,
    apply,
    applyIn,
  };
  await eventually(() => shop.asSuperuser("select 1").then(() => true), { what: "the database's Service" });
  await shop.asSuperuser(`create role shop login password '${password}'`, "create database shop owner shop");
  await execute(shop.connection(), [
    "create table orders (id integer primary key, version integer not null)",
  ]);
  return shop;
}

/** Returns the rows of the last statement. */
async function execute(
  config: pg.ClientConfig,
  statements: readonly string[],
): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(config);
  await client.connect();
  try {
    let rows: Record<string, unknown>[] = [];
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
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

/** The Secrets and the PgEventSource that a user writes. @param callbacks default: the receiver */
function sourceObjects(
  password: string,
  database: string,
  callbacks: readonly object[] = [receiverCallback()],
): object[] {
  const login = { host: `db.${NAMESPACE}.svc`, port: "5432", dbname: database, username: "shop", password };
  const spec = { database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } }, callbacks };
  return [
    secret("shop-db", login),
    secret("receiver", { token: TOKEN }, { "pgevents.dev/allow": "true" }),
    { apiVersion: "pgevents.dev/v1alpha1", kind: "PgEventSource", metadata: { name: "shop" }, spec },
  ];
}

function receiverCallback(): object {
  const http = {
    ref: { name: "receiver", port: 80, path: "/events" },
    headers: [{ name: "Authorization", secretKeyRef: { name: "receiver", key: "token" } }],
  };
  return { name: "receiver", http };
}

function secret(name: string, stringData: object, labels: object = {}): object {
  return { apiVersion: "v1", kind: "Secret", metadata: { name, labels }, stringData };
}
