/**
 * The installation as a user does it, in a cluster whose pods are real containers: image, chart, a database
 * and a receiver in pods; and what happens to it afterwards. A ledger counts every change against every
 * delivery, after each step.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { nodeEnvironment } from "../support/cluster/node/enter.ts";
import { keepLedger, type Ledger } from "../support/cluster/node/ledger.ts";
import { startNode, type TestNode } from "../support/cluster/node/node.ts";
import { openShop, type Shop } from "../support/cluster/node/shop.ts";
import { helm } from "../support/control-plane.ts";

const CHART = join(import.meta.dirname, "../../charts/pg-events");
const TOKEN = "Bearer token-of-the-receiver";
const environment = nodeEnvironment();
const skip = environment === null && "It runs in a node of its own: npm run test:cluster.";

describe("an installation", { skip }, () => {
  let node: TestNode;
  let shop: Shop;
  let ledger: Ledger;
  const runHelm = (...args: string[]) =>
    helm([...args, "--namespace", "pg-events"], { kubeconfig: node.plane.kubeconfig });

  /** What is to be ended, the last one first. */
  const ends: (() => Promise<void> | void)[] = [];
  const end = { after: (work: () => Promise<void> | void) => void ends.unshift(work) };

  before(async () => {
    if (environment === null) return;
    node = await startNode(end, environment);
    shop = await openShop(node);
  });
  after(async () => {
    for (const work of ends) await work();
  });

  test("helm install starts the operator", async () => {
    await runHelm(
      ...["install", "pg-events", CHART, "--create-namespace", "--wait", "--timeout=2m"],
      ...["--set=image.tag=test", "--set=leaderElection.leaseDurationSeconds=5"],
      ...["--set=leaderElection.renewDeadlineSeconds=4", "--set=leaderElection.retryPeriodSeconds=1"],
    );
  });

  test("helm test passes", async () => {
    await runHelm("test", "pg-events", "--timeout=1m");
  });

  test("G1 kubectl apply, and rows arrive through a Service by its name in the DNS", async (t) => {
    await shop.apply(...source());
    await shop.kubectl("wait", "pges/shop", "--for=condition=Ready", "--timeout=60s");
    ledger = keepLedger(end, shop);
    await ledger.write(100);
    const { committed, deliveries } = await ledger.settle();
    t.diagnostic(`${committed} changes, ${deliveries} deliveries`);
    assert.equal(deliveries, committed);
    assert.ok(
      shop
        .deliveries()
        .every(({ host, authorization }) => host === "receiver.shop.svc" && authorization === TOKEN),
    );
  });
});

function source(): object[] {
  const secret = (name: string, stringData: object, labels: object = {}) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, labels },
    stringData,
  });
  return [
    secret("shop-db", {
      host: "db.shop.svc",
      port: "5432",
      dbname: "shop",
      username: "shop",
      password: "first-password-of-shop",
    }),
    secret("receiver", { token: TOKEN }, { "pgevents.dev/allow": "true" }),
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop" },
      spec: {
        database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } },
        callbacks: [
          {
            name: "receiver",
            http: {
              ref: { name: "receiver", port: 80, path: "/events" },
              headers: [{ name: "Authorization", secretKeyRef: { name: "receiver", key: "token" } }],
            },
          },
        ],
      },
    },
  ];
}
