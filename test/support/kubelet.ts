/**
 * Stands in for the kubelet where there are no containers: binds the pods of a namespace to a node of
 * its own and runs each container as a process, from exactly what the pod says: args, environment, and
 * as root also user, mounts, and a read-only file system (pod-process.ts). It reports the pod Running,
 * and Ready as its own readiness probe answers; it keeps the Secret volumes up to date, restarts what
 * ends, and ends what is deleted.
 *
 * Known differences from a node: the image is this checkout; pods share the network of the host, so the
 * two listening addresses are replaced by free ports; KUBERNETES_SERVICE_HOST is not added.
 */
import { randomBytes } from "node:crypto";
import { KubernetesClient, loadKubeConfig } from "../../src/kubernetes/client.ts";
import { ListWatch } from "../../src/kubernetes/list-watch.ts";
import { collectionPath, objectPath } from "../../src/kubernetes/paths.ts";
import type { ControlPlane, TestEnd } from "./control-plane.ts";
import type { Pod, Secret } from "./pod-objects.ts";
import { PodProcess } from "./pod-process.ts";

export interface Kubelet {
  /** The processes that run, by pod name. */
  readonly pods: ReadonlyMap<string, PodProcess>;
  /** All that the processes of a pod wrote, or of all pods. */
  logs(podName?: string): string;
}

/** Runs the pods of a namespace until the end of the test. */
export async function startKubelet(t: TestEnd, plane: ControlPlane, namespace: string): Promise<Kubelet> {
  const client = new KubernetesClient(() => loadKubeConfig(plane.kubeconfig));
  const node = `test-${randomBytes(4).toString("hex")}`;
  await client.create(collectionPath("api/v1", null, "nodes"), { apiVersion: "v1", kind: "Node", metadata: { name: node } });
  const kubelet = new NamespaceKubelet(client, namespace, node);
  t.after(async () => {
    await kubelet.stop();
    await client.delete(`/api/v1/nodes/${node}`).catch(() => undefined);
    await client.close();
  });
  return kubelet;
}

class NamespaceKubelet implements Kubelet {
  readonly pods = new Map<string, PodProcess>();
  readonly #client: KubernetesClient;
  readonly #namespace: string;
  readonly #node: string;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #pods: ListWatch<Pod>;
  readonly #secrets: ListWatch<Secret>;
  /** Work on one pod goes one after the other. */
  readonly #chains = new Map<string, Promise<void>>();
  #ended = "";

  constructor(client: KubernetesClient, namespace: string, node: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.#node = node;
    const watch = <T extends Pod | Secret>(plural: string, onChange: (key: string) => void) =>
      new ListWatch<T>({ client, path: collectionPath("api/v1", namespace, plural), onChange });
    this.#pods = watch<Pod>("pods", (key) => this.#changed(key));
    this.#secrets = watch<Secret>("secrets", () => this.#secretsChanged());
    this.#running = Promise.all([this.#pods.run(this.#stop.signal), this.#secrets.run(this.#stop.signal)]);
  }

  logs(podName?: string): string {
    const living = [...this.pods.values()].filter(({ pod }) => podName === undefined || pod.metadata.name === podName);
    return `${podName === undefined ? this.#ended : ""}${living.map(({ output }) => output).join("")}`;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.pods.values()].map((one) => one.kill()));
    await this.#running;
    await Promise.allSettled(this.#chains.values());
  }

  #changed(key: string): void {
    const before = this.#chains.get(key) ?? Promise.resolve();
    const next = before.then(() => this.#sync(key)).catch((error: Error) => {
      if (!this.#stop.signal.aborted) this.#ended += `kubelet: ${key}: ${error.message}\n`;
    });
    this.#chains.set(key, next);
  }

  async #sync(key: string): Promise<void> {
    const pod = this.#pods.store.get(key);
    const name = key.split("/")[1] ?? "";
    const running = this.pods.get(name);
    if (this.#stop.signal.aborted) return;
    if (pod === undefined || pod.metadata.uid !== (running?.pod.metadata.uid ?? pod.metadata.uid)) {
      await running?.kill();
      this.#forget(name);
    } else if (pod.metadata.deletionTimestamp !== undefined) {
      await running?.terminate(pod.spec.terminationGracePeriodSeconds ?? 30);
      this.#forget(name);
      await this.#client.delete(this.#path(name), { query: { gracePeriodSeconds: "0" } });
    } else if (pod.spec.nodeName === undefined) {
      const target = { apiVersion: "v1", kind: "Node", name: this.#node };
      await this.#client.create(`${this.#path(name)}/binding`, { apiVersion: "v1", kind: "Binding", metadata: { name }, target });
    } else if (pod.spec.nodeName === this.#node && running === undefined) {
      await this.#start(pod);
    }
  }

  async #start(pod: Pod): Promise<void> {
    const { name } = pod.metadata;
    const path = objectPath("api/v1", this.#namespace, "pods", name, "status");
    const report = async (status: unknown): Promise<void> => {
      await this.#client.mergePatch(path, { status });
    };
    const read = (secret: string) => this.#secrets.store.get(`${this.#namespace}/${secret}`);
    this.pods.set(name, await PodProcess.start(pod, read, report));
  }

  #forget(name: string): void {
    this.#ended += this.pods.get(name)?.output ?? "";
    this.pods.delete(name);
  }

  #secretsChanged(): void {
    for (const one of this.pods.values()) one.writeSecrets();
  }

  #path(name: string): string {
    return objectPath("api/v1", this.#namespace, "pods", name);
  }
}
