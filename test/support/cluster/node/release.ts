/** The chart as a release named pg-events in the namespace pg-events. */

import { join } from "node:path";
import { helm } from "../helm.ts";
import type { TestNode } from "./node.ts";
import { type PodView, podsOf } from "./pods.ts";

const CHART = join(import.meta.dirname, "../../../../charts/pg-events");
const NAMESPACE = "pg-events";
const OPERATORS = "app.kubernetes.io/component=operator";

export interface Release {
  readonly namespace: string;
  install(tag: string): Promise<void>;
  /** With another image. */
  upgrade(tag: string): Promise<void>;
  uninstall(): Promise<void>;
  /** `helm test`. */
  check(): Promise<void>;
  operators(): Promise<PodView[]>;
  /** The operator pod that leads. */
  leader(): Promise<PodView>;
}

export function releaseOf(node: TestNode): Release {
  const run = (...args: string[]) =>
    helm([...args, "--namespace", NAMESPACE, "--timeout=2m"], { kubeconfig: node.plane.kubeconfig });
  const settings = [
    "--set=leaderElection.leaseDurationSeconds=5",
    "--set=leaderElection.renewDeadlineSeconds=4",
    "--set=leaderElection.retryPeriodSeconds=1",
  ];
  const operators = () => podsOf(node, NAMESPACE, OPERATORS);
  return {
    namespace: NAMESPACE,
    async install(tag) {
      await run(
        "install",
        "pg-events",
        CHART,
        "--create-namespace",
        "--wait",
        `--set=image.tag=${tag}`,
        ...settings,
      );
    },
    async upgrade(tag) {
      await run("upgrade", "pg-events", CHART, "--wait", `--set=image.tag=${tag}`, ...settings);
    },
    async uninstall() {
      await run("uninstall", "pg-events", "--wait");
    },
    async check() {
      await run("test", "pg-events");
    },
    operators,
    async leader() {
      const path = "{.items[*].spec.holderIdentity}";
      const holder = await node.kubectl([
        "get",
        "leases",
        "--namespace",
        NAMESPACE,
        `--output=jsonpath=${path}`,
      ]);
      const pod = (await operators()).find(({ name }) => holder.startsWith(name));
      if (pod === undefined) throw new Error(`no operator pod leads; the Lease is held by ${holder}`);
      return pod;
    },
  };
}
