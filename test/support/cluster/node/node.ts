/**
 * A Kubernetes cluster with one node that runs containers: a control plane with a scheduler, containerd,
 * kubelet, kube-proxy and CoreDNS. It can be started inside of the namespaces of enter.ts only.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { type ControlPlane, kubectl, startControlPlane } from "../../control-plane.ts";
import type { TestEnd } from "../../postgres.ts";
import { eventually } from "../../processes.ts";
import { commandOf } from "../binary.ts";
import { type Component, end, startComponent, until } from "../components.ts";
import { type Guard, startGuard } from "../guard.ts";
import { runTool, type ToolOptions } from "../tool.ts";
import { DNS_ADDRESS, dnsManifests } from "./dns.ts";
import type { NodeEnvironment } from "./enter.ts";
import { IMAGES } from "./images.ts";
import { cniPlugins } from "./requirements.ts";

const NODE = "node-1";
const POD_NETWORK = "10.85.0.0/16";
const READY_TIMEOUT_MS = 120_000;

export interface TestNode {
  readonly plane: ControlPlane;
  /** Of the machine that the node is, for its pods. */
  readonly address: string;
  /** Where the node keeps what it has; pods may mount what is below it. */
  readonly directory: string;
  kubectl(args: readonly string[], options?: ToolOptions): Promise<string>;
  /** containerd's own command, in the namespace of Kubernetes. */
  ctr(...args: string[]): Promise<string>;
  /** Kills the kubelet, as a crash does. Containers run on. */
  killKubelet(): Promise<void>;
  startKubelet(): Promise<void>;
}

interface Place {
  readonly plane: ControlPlane;
  readonly guard: Guard;
  readonly directory: string;
  readonly socket: string;
  readonly environment: NodeEnvironment;
}

/** Returns when the node is ready and names are resolved; ended after the test. */
export async function startNode(t: TestEnd, environment: NodeEnvironment): Promise<TestNode> {
  const plane = await startControlPlane(environment.address);
  const directory = join(plane.directory, "node");
  mkdirSync(directory);
  const place: Place = {
    plane,
    directory,
    environment,
    guard: startGuard(directory),
    socket: join(directory, "containerd.sock"),
  };
  const ctr = (...args: string[]) =>
    runTool("ctr", ["--address", place.socket, "--namespace", "k8s.io", ...args], {});
  const containerd = await startContainerd(place);
  let kubelet: Component | null = null;
  const startKubelet = async () => {
    kubelet = await startKubeletOf(place);
  };
  const killKubelet = async () => {
    if (kubelet !== null) await end(kubelet, "SIGKILL");
    kubelet = null;
  };
  const proxy = startKubeProxy(place);
  t.after(async () => {
    await killKubelet();
    await killContainers(ctr);
    await Promise.all([proxy, containerd].map((part) => end(part, "SIGTERM")));
    await unmountBelow(directory);
    place.guard.release();
    await plane.stop();
  });
  for (const image of environment.images) await ctr("images", "import", image);
  await startKubelet();
  const node: TestNode = {
    plane,
    address: environment.address,
    directory,
    ctr,
    killKubelet,
    startKubelet,
    kubectl: (args, options) => kubectl(plane, args, options),
  };
  await node.kubectl(["apply", "-f", "-"], { input: dnsManifests() });
  await node.kubectl(["rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=120s"]);
  return node;
}

async function startContainerd({ directory, socket, guard }: Place): Promise<Component> {
  const network = join(directory, "cni");
  mkdirSync(network);
  writeFileSync(join(network, "10-pods.conflist"), JSON.stringify(podNetwork()));
  const config = join(directory, "containerd.toml");
  writeFileSync(config, containerdConfig(directory, socket, network));
  const containerd = startComponent("containerd", "containerd", ["--config", config], directory, guard);
  await until(containerd, async () => {
    if (!existsSync(socket)) return false;
    await runTool("ctr", ["--address", socket, "version"], {});
    return true;
  });
  return containerd;
}

function containerdConfig(directory: string, socket: string, network: string): string {
  return `
version = 2
root = "${directory}/containerd"
state = "${directory}/containerd-run"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGES.pause}"
  # Where we may not lower a process's score below our own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${cniPlugins()}"
    conf_dir = "${network}"
`;
}

function podNetwork(): object {
  const ipam = { type: "host-local", ranges: [[{ subnet: POD_NETWORK }]], routes: [{ dst: "0.0.0.0/0" }] };
  const bridge = { type: "bridge", bridge: "cni0", isGateway: true, ipMasq: true, hairpinMode: true, ipam };
  return {
    cniVersion: "0.4.0",
    name: "pods",
    plugins: [bridge, { type: "portmap", capabilities: { portMappings: true } }],
  };
}

/** Returns when the API server knows the node as ready. */
async function startKubeletOf({ plane, directory, socket, guard, environment }: Place): Promise<Component> {
  const config = join(directory, "kubelet.yaml");
  const settings = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    // Nobody else is in this network.
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${environment.controlGroup}`,
    clusterDNS: [DNS_ADDRESS],
    clusterDomain: "cluster.local",
    containerRuntimeEndpoint: `unix://${socket}`,
    enforceNodeAllocatable: [],
    evictionHard: { "nodefs.available": "1%", "imagefs.available": "1%" },
    failCgroupV1: false,
    failSwapOn: false,
    imageGCHighThresholdPercent: 100,
    localStorageCapacityIsolation: false,
    maxPods: 60,
    nodeStatusUpdateFrequency: "4s",
    podLogsDir: join(directory, "logs"),
    resolvConf: "",
    syncFrequency: "10s",
  };
  writeFileSync(config, stringify(settings));
  const command = commandOf(plane.kube, "kubelet");
  const kubelet = startComponent(
    "kubelet",
    command.file,
    [
      ...command.args,
      `--config=${config}`,
      `--kubeconfig=${plane.kubeconfig}`,
      `--root-dir=${join(directory, "kubelet")}`,
      `--cert-dir=${join(directory, "pki")}`,
      `--hostname-override=${NODE}`,
      `--node-ip=${environment.address}`,
    ],
    directory,
    guard,
  );
  await until(kubelet, async () => {
    await kubectl(plane, ["wait", `node/${NODE}`, "--for=condition=Ready", "--timeout=1s"]);
    return true;
  });
  return kubelet;
}

function startKubeProxy({ plane, directory, guard, environment }: Place): Component {
  const command = commandOf(plane.kube, "kube-proxy");
  return startComponent(
    "kube-proxy",
    command.file,
    [
      ...command.args,
      `--kubeconfig=${plane.kubeconfig}`,
      `--hostname-override=${NODE}`,
      "--proxy-mode=iptables",
      `--cluster-cidr=${POD_NETWORK}`,
      `--bind-address=${environment.address}`,
      // The table of connections is the machine's; its size is not ours to set.
      "--conntrack-max-per-core=0",
    ],
    directory,
    guard,
  );
}

/** Of all pods, so that nothing of theirs is mounted when the directory is removed. */
async function killContainers(ctr: TestNode["ctr"]): Promise<void> {
  const running = async () =>
    (await ctr("tasks", "list", "--quiet")).split("\n").filter((line) => line !== "");
  await eventually(
    async () => {
      const tasks = await running();
      for (const task of tasks) {
        await ctr("tasks", "kill", "--all", "--signal", "SIGKILL", task).catch(() => undefined);
        await ctr("tasks", "delete", "--force", task).catch(() => undefined);
      }
      return (await running()).length === 0;
    },
    { timeoutMs: READY_TIMEOUT_MS, what: "the end of all containers" },
  );
}

/** Volumes and file systems of containers; the last mounted first. */
async function unmountBelow(directory: string): Promise<void> {
  const points = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((point) => point.startsWith(`${directory}/`));
  for (const point of points.reverse()) await runTool("umount", ["--lazy", point], {});
}
