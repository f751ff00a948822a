/**
 * A real Kubernetes control plane for tests, without containers: see cluster/components.ts. It never
 * outlives the process that started it (cluster/guard.ts), and everything it writes is in one directory
 * that is removed with it.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandOf, kubeProgram } from "./cluster/binary.ts";
import {
  apiUrl,
  type Component,
  certificate,
  end,
  type Layout,
  newLayout,
  startApiServer,
  startControllerManager,
  startEtcd,
  startScheduler,
  writeKubeconfig,
} from "./cluster/components.ts";
import { type Guard, startGuard } from "./cluster/guard.ts";
import { runTool, type ToolOptions } from "./cluster/tool.ts";
import { type ClusterRequests, clusterRequests } from "./cluster-requests.ts";
import type { TestEnd } from "./postgres.ts";

export { helm } from "./cluster/helm.ts";

const DESCRIPTION = "control-plane.json";
const INSTALL =
  "Install Go 1.24 or later (https://go.dev/doc/install): the first run builds the control plane, which takes some minutes. " +
  "Or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kube-controller-manager and kubectl.";

export interface ControlPlane {
  readonly directory: string;
  /** Path of a kubeconfig whose user may do everything. */
  readonly kubeconfig: string;
  readonly url: string;
  /** PEM. */
  readonly ca: string;
  /** The program, or the directory of programs, that has kubectl (cluster/binary.ts). */
  readonly kube: string;
  /** Ends all processes and removes the directory. */
  stop(): Promise<void>;
  /** Ends the API server (SIGKILL unless another is given) and waits for that; SIGSTOP freezes it instead. */
  stopApiServer(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again at the same address, with the same certificate and data; returns when it is ready. */
  startApiServer(): Promise<void>;
}

/** What another process needs to use a control plane that it did not start. */
type Description = Pick<ControlPlane, "directory" | "kubeconfig" | "url" | "ca" | "kube">;

export interface TestSkip {
  skip(message: string): void;
}

/**
 * @param nodeAddress for nodes that run containers (cluster/node/node.ts): the API server's address for pods
 * @throws Error when a part does not start, with the end of its log; or when there is no Go to build it with
 */
export async function startControlPlane(nodeAddress: string | null = null): Promise<ControlPlane> {
  const kube = await kubeProgram();
  if (kube === null) throw new Error(INSTALL);
  const directory = mkdtempSync(join(tmpdir(), "pg-events-kube-"));
  const guard = startGuard(directory);
  const layout = await newLayout(kube, directory, nodeAddress);
  const parts: Component[] = [startEtcd(layout, guard)];
  try {
    parts.unshift(await startApiServer(layout, guard));
    const description = describe(layout);
    writeKubeconfig(description.kubeconfig, { ...description, token: layout.token });
    writeFileSync(join(directory, DESCRIPTION), JSON.stringify(description));
    parts.unshift(await startControllerManager(layout, guard, description.kubeconfig));
    if (nodeAddress !== null) parts.unshift(startScheduler(layout, guard, description.kubeconfig));
    return running(layout, guard, parts, description);
  } catch (error) {
    await stopAll(parts, guard, directory);
    throw error;
  }
}

let ours: Promise<ControlPlane | null> | undefined;

/**
 * The control plane of this test process: the one in the directory PG_EVENTS_TEST_CONTROL_PLANE
 * (cluster/run.ts), or one that is started at the first call and ends with this process.
 * @returns null, with the test skipped, when there is no control plane program and no Go to build it;
 *   with CI set that is an error
 */
export async function useControlPlane(t: TestSkip): Promise<ControlPlane | null> {
  ours ??= findOrStart();
  const plane = await ours;
  if (plane === null) t.skip(`No Kubernetes control plane. ${INSTALL}`);
  return plane;
}

/** Runs `kubectl <args>`, as admin unless another kubeconfig is given. @throws Error with its stderr */
export function kubectl(
  plane: ControlPlane,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<string> {
  const env = { KUBECACHEDIR: join(plane.directory, "kubectl-cache"), ...options.env };
  const command = commandOf(plane.kube, "kubectl");
  return runTool(command.file, [...command.args, ...args], { kubeconfig: plane.kubeconfig, ...options, env });
}

/** A new namespace, with its `default` ServiceAccount; deletion begins at the end of the test. */
export async function testNamespace(
  t: TestEnd,
  plane: ControlPlane,
  labels: Readonly<Record<string, string>> = {},
): Promise<string> {
  const name = `test-${randomBytes(5).toString("hex")}`;
  const cluster = await clusterRequests(plane.kubeconfig);
  const path = `/api/v1/namespaces/${name}`;
  await must(cluster, "POST", "/api/v1/namespaces", { metadata: { name, labels } });
  t.after(async () => {
    await cluster.request("DELETE", path);
    cluster.close();
  });
  const account = { metadata: { name: "default" } };
  const { status } = await cluster.request("POST", `${path}/serviceaccounts`, { body: account });
  if (status !== 201 && status !== 409)
    throw new Error(`the ServiceAccount default of ${name}: status ${status}`);
  return name;
}

/** A kubeconfig file with a token of this ServiceAccount, good for an hour; returns its path. */
export async function serviceAccountKubeconfig(
  plane: ControlPlane,
  namespace: string,
  name: string,
): Promise<string> {
  const cluster = await clusterRequests(plane.kubeconfig);
  try {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const { status } = await must(cluster, "POST", path, { spec: { expirationSeconds: 3600 } });
    const file = join(plane.directory, `${namespace}-${name}-${randomBytes(4).toString("hex")}.kubeconfig`);
    writeKubeconfig(file, { url: plane.url, ca: plane.ca, token: status.token, namespace });
    return file;
  } finally {
    cluster.close();
  }
}

function running(layout: Layout, guard: Guard, parts: Component[], description: Description): ControlPlane {
  const apiServer = () => parts.find(({ name }) => name === "kube-apiserver") as Component;
  return {
    ...description,
    stop: () => stopAll(parts, guard, layout.directory),
    async stopApiServer(signal = "SIGKILL") {
      if (signal === "SIGSTOP") apiServer().process.kill(signal);
      else await end(apiServer(), signal);
    },
    async startApiServer() {
      const { process: child } = apiServer();
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGCONT");
      else parts[parts.indexOf(apiServer())] = await startApiServer(layout, guard);
    },
  };
}

async function stopAll(parts: readonly Component[], guard: Guard, directory: string): Promise<void> {
  // Nothing of theirs is kept, so there is nothing that an orderly end would save.
  await Promise.all(parts.map((part) => end(part, "SIGKILL")));
  guard.release();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

function describe(layout: Layout): Description {
  return {
    directory: layout.directory,
    kubeconfig: join(layout.directory, "kubeconfig"),
    url: apiUrl(layout),
    ca: readFileSync(certificate(layout), "utf8"),
    kube: layout.kube,
  };
}

async function findOrStart(): Promise<ControlPlane | null> {
  const directory = process.env.PG_EVENTS_TEST_CONTROL_PLANE;
  if (directory !== undefined) return foreign(directory);
  if ((await kubeProgram()) !== null) return startControlPlane();
  if (process.env.CI) throw new Error(INSTALL);
  return null;
}

function foreign(directory: string): ControlPlane {
  const description = JSON.parse(readFileSync(join(directory, DESCRIPTION), "utf8")) as Description;
  const refuse = () =>
    Promise.reject(
      new Error("This control plane is another process's: use startControlPlane() for tests that stop it."),
    );
  return { ...description, stop: () => Promise.resolve(), stopApiServer: refuse, startApiServer: refuse };
}

async function must(cluster: ClusterRequests, method: string, path: string, body: unknown) {
  const answer = await cluster.request(method, path, { body });
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body?.message}`);
  return answer.body;
}
