/**
 * A kubelet without containers: it binds the pods of one namespace to a node of its own, runs the one
 * container of each as a process of this machine, and reports what a kubelet reports, so that the real
 * Deployment and ReplicaSet controllers work with it. Readiness is the program's own /readyz.
 * It has no liveness probes, no init containers, no resource limits and ignores where pods want to be.
 */
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Guard, startGuard } from "./cluster/guard.ts";
import { containerEnvironment, type PodPorts, podPorts, startContainer } from "./cluster/pod-process.ts";
import { type Pod, type PodVolume, podVolume } from "./cluster/pod-volumes.ts";
import { type ClusterRequests, clusterRequests } from "./cluster-requests.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { TestEnd } from "./postgres.ts";

const POLL_MS = 300;
const PROBE_TIMEOUT_MS = 2000;
const FIRST_RESTART_MS = 1000;
const LAST_RESTART_MS = 10_000;

export interface RunningPod {
  readonly name: string;
  /** Of the last start; null while it has not been started. */
  readonly process: ChildProcess | null;
  /** stdout and stderr of all its starts. */
  readonly output: string;
  readonly restarts: number;
  readonly metricsUrl: string;
  readonly probesUrl: string;
}

export interface Kubelet {
  readonly nodeName: string;
  /** Pods that are bound and not yet gone. */
  pods(): RunningPod[];
  /** Kills what still runs and takes the pods and the node away. */
  stop(): Promise<void>;
}

interface Entry {
  pod: Pod;
  readonly ports: PodPorts;
  readonly directory: string;
  readonly startTime: string;
  readonly volumes: Map<string, PodVolume>;
  process: ChildProcess | null;
  output: string;
  restarts: number;
  startAt: number;
  killAt: number | null;
  ready: boolean;
  waiting: { reason: string; message: string };
  reported: string;
}

interface Host {
  readonly cluster: ClusterRequests;
  readonly guard: Guard;
  readonly root: string;
  readonly nodeName: string;
  readonly namespace: string;
  readonly entries: Map<string, Entry>;
}

/** Stops at the end of the test. */
export async function startKubelet(t: TestEnd, plane: ControlPlane, namespace: string): Promise<Kubelet> {
  const cluster = await clusterRequests(plane.kubeconfig);
  const root = mkdtempSync(join(tmpdir(), "pg-events-kubelet-"));
  chmodSync(root, 0o711);
  const nodeName = `node-${randomBytes(5).toString("hex")}`;
  const node = await cluster.request("POST", "/api/v1/nodes", { body: { metadata: { name: nodeName } } });
  if (node.status !== 201) throw new Error(`node ${nodeName}: ${node.body.message}`);
  const host: Host = { cluster, guard: startGuard(root), root, nodeName, namespace, entries: new Map() };
  let stopped: Promise<void> | null = null;
  let stopping = false;
  const working = (async () => {
    while (!stopping) {
      // The API server may be away for a while: the next round looks again.
      await round(host).catch(() => undefined);
      await sleep(POLL_MS);
    }
  })();
  const stop = () => {
    stopping = true;
    stopped ??= working.then(() => leave(host));
    return stopped;
  };
  t.after(stop);
  return { nodeName, pods: () => [...host.entries.values()].map(shown), stop };
}

function shown(entry: Entry): RunningPod {
  return {
    name: entry.pod.metadata.name,
    get process() {
      return entry.process;
    },
    get output() {
      return entry.output;
    },
    get restarts() {
      return entry.restarts;
    },
    metricsUrl: `http://127.0.0.1:${entry.ports.metrics}/metrics`,
    probesUrl: `http://127.0.0.1:${entry.ports.probes}`,
  };
}

async function round(host: Host): Promise<void> {
  const { status, body } = await host.cluster.request("GET", `/api/v1/namespaces/${host.namespace}/pods`);
  if (status !== 200) return;
  const pods: Pod[] = body.items;
  for (const pod of pods) await take(host, pod);
  const listed = new Set(pods.map((pod) => pod.metadata.uid));
  for (const [uid, entry] of host.entries) if (!listed.has(uid)) await forget(host, uid, entry);
  await Promise.all([...host.entries.values()].map((entry) => tend(host, entry)));
}

async function take(host: Host, pod: Pod): Promise<void> {
  const { uid, name } = pod.metadata;
  const known = host.entries.get(uid);
  if (known !== undefined) known.pod = pod;
  if (known !== undefined || ["Succeeded", "Failed"].includes(pod.status?.phase)) return;
  if (pod.spec.nodeName === undefined) {
    const target = { apiVersion: "v1", kind: "Node", name: host.nodeName };
    const body = { apiVersion: "v1", kind: "Binding", metadata: { name, uid }, target };
    const { status } = await host.cluster.request("POST", `${path(host, name)}/binding`, { body });
    if (status >= 300) return;
    pod.spec.nodeName = host.nodeName;
  }
  if (pod.spec.nodeName !== host.nodeName) return;
  host.entries.set(uid, {
    pod,
    ports: await podPorts(),
    directory: join(host.root, uid),
    startTime: new Date().toISOString(),
    volumes: new Map(),
    process: null,
    output: "",
    restarts: 0,
    startAt: 0,
    killAt: null,
    ready: false,
    waiting: { reason: "ContainerCreating", message: "" },
    reported: "",
  });
}

async function tend(host: Host, entry: Entry): Promise<void> {
  if (entry.pod.metadata.deletionTimestamp !== undefined) return terminate(host, entry);
  if (!runs(entry) && performance.now() >= entry.startAt && !finished(entry)) await start(host, entry);
  for (const volume of entry.volumes.values()) await volume.refresh().catch(() => undefined);
  entry.ready = runs(entry) && (await probe(entry));
  await report(host, entry);
}

async function start(host: Host, entry: Entry): Promise<void> {
  const { pod } = entry;
  try {
    for (const volume of pod.spec.volumes ?? []) {
      if (entry.volumes.has(volume.name)) continue;
      entry.volumes.set(
        volume.name,
        await podVolume(host.cluster, pod, volume, join(entry.directory, "volumes", volume.name)),
      );
    }
    const mounts = (pod.spec.containers[0].volumeMounts ?? []).map(
      ({ name, mountPath }: { name: string; mountPath: string }) => ({
        mountPath,
        directory: (entry.volumes.get(name) as PodVolume).directory,
      }),
    );
    const environment = await containerEnvironment(host.cluster, pod);
    follow(
      host,
      entry,
      startContainer(
        pod,
        environment,
        mounts,
        entry.ports,
        join(entry.directory, "scratch"),
        host.cluster.server,
      ),
    );
  } catch (error) {
    entry.waiting = { reason: "CreateContainerConfigError", message: (error as Error).message };
    entry.startAt = performance.now() + FIRST_RESTART_MS;
  }
}

function follow(host: Host, entry: Entry, child: ChildProcess): void {
  entry.process = child;
  const { pid } = child;
  if (pid !== undefined) host.guard.watch(pid);
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => (entry.output += text));
  child.once("error", (error) => {
    entry.output += `${error.message}\n`;
  });
  child.once("exit", (code, signal) => {
    if (pid !== undefined) host.guard.forget(pid);
    const restart =
      entry.pod.spec.restartPolicy === "Always" ||
      (entry.pod.spec.restartPolicy === "OnFailure" && code !== 0);
    if (!restart || entry.killAt !== null) return;
    entry.startAt = performance.now() + Math.min(LAST_RESTART_MS, FIRST_RESTART_MS * 2 ** entry.restarts);
    entry.restarts += 1;
    entry.waiting = { reason: "CrashLoopBackOff", message: `ended with ${signal ?? `code ${code}`}` };
  });
}

/** SIGTERM, the grace period, SIGKILL; the pod goes when the process is gone. */
async function terminate(host: Host, entry: Entry): Promise<void> {
  const { name, deletionGracePeriodSeconds } = entry.pod.metadata;
  if (runs(entry)) {
    if (entry.killAt === null) {
      entry.killAt = performance.now() + (deletionGracePeriodSeconds ?? 30) * 1000;
      entry.process?.kill("SIGTERM");
    } else if (performance.now() >= entry.killAt) entry.process?.kill("SIGKILL");
    entry.ready = await probe(entry);
    return report(host, entry);
  }
  await remove(host, name);
}

async function forget(host: Host, uid: string, entry: Entry): Promise<void> {
  await kill(entry);
  host.entries.delete(uid);
  rmSync(entry.directory, { recursive: true, force: true });
}

async function leave(host: Host): Promise<void> {
  for (const [uid, entry] of host.entries) {
    await forget(host, uid, entry);
    await remove(host, entry.pod.metadata.name).catch(() => undefined);
  }
  await host.cluster.request("DELETE", `/api/v1/nodes/${host.nodeName}`).catch(() => undefined);
  host.cluster.close();
  host.guard.release();
  rmSync(host.root, { recursive: true, force: true });
}

/** A pod's name cannot be another's before it is gone, so no precondition is needed. */
async function remove(host: Host, name: string): Promise<void> {
  await host.cluster.request("DELETE", `${path(host, name)}?gracePeriodSeconds=0`);
}

async function kill(entry: Entry): Promise<void> {
  if (!runs(entry) || entry.process === null) return;
  entry.killAt ??= performance.now();
  const exited = once(entry.process, "exit");
  entry.process.kill("SIGKILL");
  await exited;
}

async function probe({ pod, ports }: Entry): Promise<boolean> {
  const container = pod.spec.containers[0];
  const http = container.readinessProbe?.httpGet;
  if (http === undefined) return true;
  const number = (container.ports ?? []).find(
    ({ name }: { name: string }) => name === "metrics",
  )?.containerPort;
  const port = http.port === "metrics" || http.port === number ? ports.metrics : ports.probes;
  const answer = await fetch(`http://127.0.0.1:${port}${http.path ?? "/"}`, {
    signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
  }).catch(() => null);
  await answer?.body?.cancel();
  return answer?.ok === true;
}

async function report(host: Host, entry: Entry): Promise<void> {
  const status = statusOf(entry);
  const text = JSON.stringify(status);
  if (text === entry.reported) return;
  const conditions = status.conditions.map((condition) => ({
    ...condition,
    lastTransitionTime: new Date().toISOString(),
  }));
  const body = { metadata: { uid: entry.pod.metadata.uid }, status: { ...status, conditions } };
  const target = `${path(host, entry.pod.metadata.name)}/status`;
  const answer = await host.cluster.request("PATCH", target, {
    body,
    type: "application/strategic-merge-patch+json",
  });
  if (answer.status === 200) entry.reported = text;
}

function statusOf(entry: Entry) {
  const { pod, process: child, ready, restarts, startTime } = entry;
  const [container] = pod.spec.containers;
  const done = finished(entry);
  const exitCode = child?.exitCode ?? 137;
  const phase = done ? (exitCode === 0 ? "Succeeded" : "Failed") : child === null ? "Pending" : "Running";
  // The patch merges by key: what no longer holds has to be taken away by name.
  const none = { running: null, waiting: null, terminated: null };
  const now = done
    ? { terminated: { exitCode, reason: exitCode === 0 ? "Completed" : "Error" } }
    : runs(entry)
      ? { running: { startedAt: startTime } }
      : { waiting: entry.waiting };
  const condition = (type: string, holds: boolean) => ({ type, status: holds ? "True" : "False" });
  const started = runs(entry);
  const containerStatuses = [
    {
      name: container.name,
      image: container.image,
      imageID: container.image,
      ready,
      started,
      restartCount: restarts,
      state: { ...none, ...now },
    },
  ];
  const conditions = [
    condition("PodScheduled", true),
    condition("Initialized", true),
    condition("ContainersReady", ready),
    condition("Ready", ready),
  ];
  return {
    phase,
    podIP: "127.0.0.1",
    podIPs: [{ ip: "127.0.0.1" }],
    hostIP: "127.0.0.1",
    startTime,
    conditions,
    containerStatuses,
  };
}

function runs({ process: child }: Entry): boolean {
  return child !== null && child.pid !== undefined && child.exitCode === null && child.signalCode === null;
}

/** Ended, and its restart policy leaves it so. */
function finished(entry: Entry): boolean {
  const { restartPolicy } = entry.pod.spec;
  if (entry.process === null || runs(entry) || restartPolicy === "Always") return false;
  return restartPolicy === "Never" || entry.process.exitCode === 0;
}

const path = (host: Host, name: string) => `/api/v1/namespaces/${host.namespace}/pods/${name}`;
