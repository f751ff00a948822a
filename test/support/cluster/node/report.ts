/** What a failed test needs to be understood after the cluster is gone. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestNode } from "./node.ts";

const TAIL = 1500;

/** Pods, sources and events of these namespaces, the end of each pod's log and of the node's. */
export async function report(node: TestNode, namespaces: readonly string[]): Promise<string> {
  const show = (...args: string[]) => node.kubectl(args).catch((error: Error) => error.message);
  const parts = [await show("get", "pods", "--all-namespaces", "--output=wide")];
  for (const namespace of namespaces) {
    const inside = (...args: string[]) => show(...args, "--namespace", namespace);
    const conditions =
      "{range .items[*].status.conditions[*]}{.type} {.status} {.reason} {.message}{'\\n'}{end}";
    parts.push(await inside("get", "pges", `--output=jsonpath=${conditions}`));
    parts.push((await inside("get", "events", "--sort-by=.lastTimestamp")).slice(-3 * TAIL));
    for (const pod of (await inside("get", "pods", "--output=name"))
      .split("\n")
      .filter((name) => name !== ""))
      parts.push(`${pod}:\n${(await inside("logs", pod, "--tail=20")).slice(-TAIL)}`);
  }
  for (const name of ["containerd", "kubelet", "kube-proxy"])
    parts.push(`${name}:\n${readFileSync(join(node.directory, `${name}.log`), "utf8").slice(-TAIL)}`);
  return parts.join("\n");
}
