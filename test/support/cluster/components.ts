/**
 * The processes of a control plane: etcd, kube-apiserver and kube-controller-manager, on loopback ports,
 * with all they write in one directory. Without a node that runs containers (node/node.ts) there is no
 * scheduler (test/support/kubelet.ts binds pods) and no node lifecycle controller (nobody renews the leases
 * of nodes then).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { commandOf } from "./binary.ts";
import { freePort } from "./free-port.ts";
import type { Guard } from "./guard.ts";

/** Of the addresses of Services. */
export const SERVICE_NETWORK = "10.0.0.0/24";

const READY_TIMEOUT_MS = 120_000;
const POLL_MS = 100;
const LOG_TAIL = 3000;

export interface Component {
  readonly name: string;
  readonly process: ChildProcess;
  readonly log: string;
}

/** Everything the processes are started from; fixed for the life of a control plane, so they can be restarted. */
export interface Layout {
  /** What commandOf takes. */
  readonly kube: string;
  readonly directory: string;
  readonly etcdUrl: string;
  readonly etcdPeerUrl: string;
  readonly apiPort: number;
  readonly token: string;
  /** Where pods reach the API server; null when no pod runs. */
  readonly nodeAddress: string | null;
}

export async function newLayout(
  kube: string,
  directory: string,
  nodeAddress: string | null = null,
): Promise<Layout> {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const token = randomBytes(16).toString("hex");
  const secret = { mode: 0o600 };
  writeFileSync(join(directory, "sa.pub"), publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(join(directory, "sa.key"), privateKey.export({ type: "pkcs1", format: "pem" }), secret);
  writeFileSync(join(directory, "tokens.csv"), `${token},admin,admin,"system:masters"\n`, secret);
  const [etcd, peer, apiPort] = [await freePort(), await freePort(), await freePort()];
  return {
    kube,
    directory,
    etcdUrl: `http://127.0.0.1:${etcd}`,
    etcdPeerUrl: `http://127.0.0.1:${peer}`,
    apiPort,
    token,
    nodeAddress,
  };
}

export function startEtcd(layout: Layout, guard: Guard): Component {
  return start(layout, guard, "etcd", [
    `--data-dir=${join(layout.directory, "etcd")}`,
    `--listen-client-urls=${layout.etcdUrl}`,
    `--advertise-client-urls=${layout.etcdUrl}`,
    `--listen-peer-urls=${layout.etcdPeerUrl}`,
    `--initial-advertise-peer-urls=${layout.etcdPeerUrl}`,
    `--initial-cluster=default=${layout.etcdPeerUrl}`,
    "--unsafe-no-fsync",
    "--log-level=error",
  ]);
}

/** Returns when it says it is ready. */
export async function startApiServer(layout: Layout, guard: Guard): Promise<Component> {
  const { directory, nodeAddress } = layout;
  // A loopback address is not allowed in the endpoints of the Service "kubernetes", so they are left out.
  const addresses =
    nodeAddress === null
      ? ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]
      : [
          "--bind-address=0.0.0.0",
          `--advertise-address=${nodeAddress}`,
          // The DNS of this machine does not know the node.
          "--kubelet-preferred-address-types=InternalIP",
        ];
  const server = start(layout, guard, "kube-apiserver", [
    `--etcd-servers=${layout.etcdUrl}`,
    `--secure-port=${layout.apiPort}`,
    ...addresses,
    `--cert-dir=${directory}`,
    `--service-account-key-file=${join(directory, "sa.pub")}`,
    `--service-account-signing-key-file=${join(directory, "sa.key")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--token-auth-file=${join(directory, "tokens.csv")}`,
    "--authorization-mode=Node,RBAC",
    // As on OpenShift: who blocks the deletion of an owner needs the right to its finalizers.
    "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    `--service-cluster-ip-range=${SERVICE_NETWORK}`,
    "--allow-privileged=true",
  ]);
  await until(server, async () => (await get(layout, "/readyz")) === 200);
  return server;
}

/** Returns when it works: the ServiceAccount `default` is its work. */
export async function startControllerManager(
  layout: Layout,
  guard: Guard,
  kubeconfig: string,
): Promise<Component> {
  const manager = start(layout, guard, "kube-controller-manager", [
    `--kubeconfig=${kubeconfig}`,
    `--service-account-private-key-file=${join(layout.directory, "sa.key")}`,
    `--root-ca-file=${certificate(layout)}`,
    "--use-service-account-credentials=true",
    "--leader-elect=false",
    "--secure-port=0",
    ...(layout.nodeAddress === null ? ["--controllers=*,-node-lifecycle-controller"] : []),
  ]);
  await until(
    manager,
    async () => (await get(layout, "/api/v1/namespaces/default/serviceaccounts/default")) === 200,
  );
  return manager;
}

export function startScheduler(layout: Layout, guard: Guard, kubeconfig: string): Component {
  return start(layout, guard, "kube-scheduler", [`--kubeconfig=${kubeconfig}`, "--leader-elect=false"]);
}

/** The API server makes it at its first start and signs it itself. */
export function certificate(layout: Layout): string {
  return join(layout.directory, "apiserver.crt");
}

export function writeKubeconfig(
  path: string,
  { url, ca, token, namespace }: { url: string; ca: string; token: string; namespace?: string },
): void {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "test",
        cluster: { server: url, "certificate-authority-data": Buffer.from(ca).toString("base64") },
      },
    ],
    users: [{ name: "test", user: { token } }],
    contexts: [
      {
        name: "test",
        context: { cluster: "test", user: "test", ...(namespace === undefined ? {} : { namespace }) },
      },
    ],
    "current-context": "test",
  };
  writeFileSync(path, stringify(config), { mode: 0o600 });
}

export function apiUrl({ nodeAddress, apiPort }: Layout): string {
  return `https://${nodeAddress ?? "127.0.0.1"}:${apiPort}`;
}

/** Ends a process and waits for it; SIGKILL when `signal` has not ended it after `patienceMs` milliseconds. */
export async function end(
  { process: child }: Component,
  signal: NodeJS.Signals,
  patienceMs = 10_000,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  const hard = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await exited;
  clearTimeout(hard);
}

function start(layout: Layout, guard: Guard, name: string, args: string[]): Component {
  const command = commandOf(layout.kube, name);
  return startComponent(name, command.file, [...command.args, ...args], layout.directory, guard);
}

/** Starts a program whose output goes to `<name>.log` in the directory; the guard ends it with us. */
export function startComponent(
  name: string,
  file: string,
  args: readonly string[],
  directory: string,
  guard: Guard,
): Component {
  const log = join(directory, `${name}.log`);
  const output = openSync(log, "a");
  // A process group of its own: Ctrl-C in a terminal is for the tests, which then end it.
  const child = spawn(file, args, { stdio: ["ignore", output, output], detached: true, cwd: directory });
  closeSync(output);
  child.on("error", () => undefined);
  const { pid } = child;
  if (pid === undefined) throw new Error(`${file} cannot be started`);
  guard.watch(pid);
  child.once("exit", () => guard.forget(pid));
  child.unref();
  return { name, process: child, log };
}

/** Waits until `ready` says so. @throws Error with the end of the log when the process ended, or after 2 minutes */
export async function until(component: Component, ready: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!(await ready().catch(() => false))) {
    const ended = component.process.exitCode !== null || component.process.signalCode !== null;
    if (ended || performance.now() > deadline) {
      const tail = readFileSync(component.log, "utf8").slice(-LOG_TAIL);
      throw new Error(`${component.name} ${ended ? "ended" : "is not ready"}:\n${tail}`);
    }
    await sleep(POLL_MS);
  }
}

function get(layout: Layout, path: string): Promise<number | undefined> {
  if (!existsSync(certificate(layout))) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const options = {
      ca: readFileSync(certificate(layout)),
      headers: { authorization: `Bearer ${layout.token}` },
      agent: false,
      timeout: 5000,
    };
    const sent = request(`${apiUrl(layout)}${path}`, options, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on("timeout", () => sent.destroy(new Error("timeout")));
    sent.on("error", reject);
    sent.end();
  });
}
