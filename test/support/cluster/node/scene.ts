/**
 * A cluster for the tests of one file, whose steps follow each other: node, shop and release, and a ledger that
 * is settled after each step.
 */
import { after, before, type TestContext, test } from "node:test";
import { eventually } from "../../processes.ts";
import { nodeEnvironment } from "./enter.ts";
import { keepLedger, type Ledger } from "./ledger.ts";
import { startNode, type TestNode } from "./node.ts";
import { type PodView, podsOf } from "./pods.ts";
import { type Release, releaseOf } from "./release.ts";
import { report } from "./report.ts";
import { NAMESPACE, openShop, type Shop } from "./shop.ts";

export const WORKERS = "pgevents.dev/source=shop";
const PATIENCE = { timeoutMs: 90_000 };

export interface Scene {
  readonly node: TestNode;
  readonly shop: Shop;
  readonly release: Release;
  /** Of the source that was applied last. */
  readonly ledger: Ledger;
  /** Repeats after the step before. */
  readonly repeats: number;
  /** A step. Afterwards nothing may be missing; when it fails the state of the cluster is printed. */
  test(title: string, work: (t: TestContext) => Promise<void>): void;
  /** Applies the source, waits until it is Ready and opens a ledger of what is written from then on. */
  applySource(): Promise<void>;
  /** Ends the writer, when everything was delivered. */
  closeLedger(): Promise<void>;
  workers(): Promise<PodView[]>;
  /** Scales the source, and waits until that many workers are ready. */
  scale(replicas: number): Promise<void>;
  workersReady(count: number): Promise<void>;
  /** Waits for a condition of the source, as JSON, to match. */
  conditionMatches(type: string, pattern: RegExp): Promise<void>;
}

/** Hooks of the file start and end it; every step is skipped outside of a node. */
export function clusterScene(): Scene {
  const environment = nodeEnvironment();
  const skip = environment === null && "It runs in a node of its own: npm run test:cluster.";
  const parts: { node?: TestNode; shop?: Shop; release?: Release; ledger?: Ledger | undefined } = {};
  let repeats = 0;
  let failed: string | null = null;
  // Hooks of hooks would run when these end, so what is started is ended by a list; the last one first.
  const ends: (() => Promise<void> | void)[] = [];
  const end = { after: (work: () => Promise<void> | void) => void ends.unshift(work) };
  before(async () => {
    if (environment === null) return;
    parts.node = await startNode(end, environment);
    parts.shop = await openShop(parts.node);
    parts.release = releaseOf(parts.node);
  });
  after(async () => {
    for (const work of ends) await work();
  });

  const started = <Name extends keyof typeof parts>(name: Name): NonNullable<(typeof parts)[Name]> => {
    const part = parts[name];
    if (part === undefined) throw new Error(`A step before this one did not get as far as the ${name}.`);
    return part;
  };
  const settle = async (t: TestContext) => {
    if (parts.ledger === undefined) return;
    const { committed, ...delivered } = await parts.ledger.settle();
    repeats = delivered.repeats;
    t.diagnostic(`${committed} changes, ${delivered.deliveries} deliveries, ${repeats} repeats`);
  };
  const scene: Scene = {
    get node() {
      return started("node");
    },
    get shop() {
      return started("shop");
    },
    get release() {
      return started("release");
    },
    get ledger() {
      return started("ledger");
    },
    get repeats() {
      return repeats;
    },
    test(title, work) {
      test(title, { skip }, async (t) => {
        if (failed !== null) throw new Error(`The step "${failed}" failed, and this one builds on it.`);
        try {
          await work(t);
          await settle(t);
        } catch (error) {
          failed = title;
          t.diagnostic(error instanceof Error ? (error.stack ?? error.message) : String(error));
          t.diagnostic(await report(scene.node, [NAMESPACE, scene.release.namespace]));
          throw error;
        }
      });
    },
    async applySource() {
      await scene.shop.apply(...scene.shop.source());
      await scene.shop.kubectl("wait", "pges/shop", "--for=condition=Ready", "--timeout=60s");
      repeats = 0;
      parts.ledger = keepLedger(end, scene.shop);
    },
    async closeLedger() {
      await scene.ledger.settle();
      await scene.ledger.stop();
      await scene.ledger.settle();
      parts.ledger = undefined;
    },
    workers: () => podsOf(scene.node, NAMESPACE, WORKERS),
    async scale(replicas) {
      await scene.shop.kubectl("scale", "pges/shop", `--replicas=${replicas}`);
      await scene.workersReady(replicas);
    },
    async workersReady(count) {
      const ready = async () => {
        const pods = await scene.workers();
        return pods.length === count && pods.every((pod) => pod.ready);
      };
      await eventually(ready, { ...PATIENCE, what: `${count} workers that are ready` });
    },
    async conditionMatches(type, pattern) {
      const path = `{.status.conditions[?(@.type=='${type}')]}`;
      const read = () => scene.shop.kubectl("get", "pges/shop", `--output=jsonpath=${path}`);
      await eventually(async () => pattern.test(await read()) || Promise.reject(new Error(await read())), {
        timeoutMs: 120_000,
        what: `${type} to match ${pattern}`,
      });
    },
  };
  return scene;
}
