/** Looking at pods, and what is done to them. */
import type { TestNode } from "./node.ts";

export interface PodView {
  readonly name: string;
  readonly uid: string;
  readonly ready: boolean;
  readonly restarts: number;
  /** In containerd; empty before it was made. */
  readonly containerId: string;
  /** Why its container waits; empty when it does not. */
  readonly waiting: string;
}

/** The pods with these labels that nobody has told to end, each with one container. */
export async function podsOf(node: TestNode, namespace: string, selector: string): Promise<PodView[]> {
  const args = ["get", "pods", "--namespace", namespace, "--selector", selector, "--output=json"];
  // biome-ignore lint/suspicious/noExplicitAny: what the API server says
  const { items } = JSON.parse(await node.kubectl(args)) as { items: any[] };
  return items
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map(({ metadata, status }) => {
      const [container] = status.containerStatuses ?? [];
      return {
        name: metadata.name,
        uid: metadata.uid,
        ready: container?.ready === true,
        restarts: container?.restartCount ?? 0,
        containerId: (container?.containerID ?? "").replace("containerd://", ""),
        waiting: container?.state.waiting?.reason ?? "",
      };
    });
}

/** Kills all processes of a pod's container. */
export async function killContainer(node: TestNode, { containerId }: PodView): Promise<void> {
  await node.ctr("tasks", "kill", "--all", "--signal", "SIGKILL", containerId);
}

/** What `kubectl drain` does to a pod. @throws Error with the API server's answer when a budget forbids it */
export async function evict(node: TestNode, namespace: string, name: string): Promise<void> {
  const input = JSON.stringify({ apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } });
  const path = `/api/v1/namespaces/${namespace}/pods/${name}/eviction`;
  await node.kubectl(["create", "--raw", path, "--filename", "-"], { input });
}
