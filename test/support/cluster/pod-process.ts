/**
 * A container as a process of this machine. As root it gets the volumes at their real paths (a mount
 * namespace of its own, where an overlay takes the mount points, so nothing appears on the machine) and
 * the user of the image; otherwise paths in its environment are rewritten.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { ClusterRequests } from "../cluster-requests.ts";
import { freePort } from "./free-port.ts";
import { type Pod, podField } from "./pod-volumes.ts";

const CLI = join(import.meta.dirname, "../../../src/cli.ts");
const USER = "65532";

export interface PodPorts {
  readonly metrics: number;
  readonly probes: number;
}

export interface Mount {
  readonly mountPath: string;
  readonly directory: string;
}

export async function podPorts(): Promise<PodPorts> {
  return { metrics: await freePort(), probes: await freePort() };
}

/** The environment that the container asks for. @throws Error for sources that are not there or not supported */
export async function containerEnvironment(
  cluster: ClusterRequests,
  pod: Pod,
): Promise<Record<string, string>> {
  const environment: Record<string, string> = {};
  const container = pod.spec.containers[0];
  if (container.envFrom !== undefined) throw new Error("this kubelet does not have envFrom");
  for (const { name, value, valueFrom } of container.env ?? []) {
    const key = valueFrom?.secretKeyRef;
    if (valueFrom?.fieldRef !== undefined) environment[name] = podField(pod, valueFrom.fieldRef.fieldPath);
    else if (key !== undefined) {
      const { body } = await cluster.request(
        "GET",
        `/api/v1/namespaces/${pod.metadata.namespace}/secrets/${key.name}`,
      );
      const data = body.data?.[key.key];
      if (data !== undefined) environment[name] = Buffer.from(data, "base64").toString();
      else if (key.optional !== true) throw new Error(`Secret ${key.name} has no key ${key.key}`);
    } else environment[name] = value ?? "";
  }
  return environment;
}

/** @param apiServer URL of the API server, which pods find in KUBERNETES_SERVICE_HOST and _PORT */
export function startContainer(
  pod: Pod,
  asked: Record<string, string>,
  mounts: readonly Mount[],
  ports: PodPorts,
  scratch: string,
  apiServer: string,
): ChildProcess {
  const container = pod.spec.containers[0];
  const { hostname, port } = new URL(apiServer);
  const environment: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOSTNAME: pod.metadata.name,
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    ...asked,
    PG_EVENTS_METRICS_ADDRESS: `127.0.0.1:${ports.metrics}`,
    PG_EVENTS_PROBES_ADDRESS: `127.0.0.1:${ports.probes}`,
  };
  const command = programOf(container, ports);
  const options = {
    stdio: ["ignore", "pipe", "pipe"] as ["ignore", "pipe", "pipe"],
    detached: true,
    cwd: "/",
  };
  if (process.getuid?.() !== 0) {
    return spawn(command[0] as string, command.slice(1), {
      ...options,
      env: withoutMounts(environment, mounts),
    });
  }
  mkdirSync(scratch, { recursive: true });
  const script = [...mountScript(mounts, scratch), `exec ${asImageUser(command).map(quoted).join(" ")}`].join(
    "\n",
  );
  return spawn("unshare", ["--mount", "--propagation", "private", "sh", "-ec", script], {
    ...options,
    env: environment,
  });
}

/** The image's entry point is the program of this checkout. Pods share the machine, so each has ports of its own. */
function programOf(container: Pod, ports: PodPorts): string[] {
  const args = (container.args ?? []).map((argument: string) =>
    argument
      .replace(/^--metrics-address=.*/, `--metrics-address=127.0.0.1:${ports.metrics}`)
      .replace(/^--probes-address=.*/, `--probes-address=127.0.0.1:${ports.probes}`),
  );
  const [program, ...rest]: string[] = container.command ?? ["node", CLI];
  return [program === "node" ? process.execPath : String(program), ...rest, ...args];
}

/** Below one overlay for each top directory, so that the mount points need not be made on the machine. */
function mountScript(mounts: readonly Mount[], scratch: string): string[] {
  const lines = [`mount -t tmpfs tmpfs ${quoted(scratch)}`];
  // What is bound may itself lie below an overlay or a volume, so it is first brought where nothing covers it.
  mounts.forEach(({ directory }, index) => {
    lines.push(
      `mkdir -p ${quoted(`${scratch}/v${index}`)}`,
      `mount --bind ${quoted(directory)} ${quoted(`${scratch}/v${index}`)}`,
    );
  });
  // All mount points come before the first volume: an overlay would cover volumes below it.
  mounts.forEach(({ mountPath }, index) => {
    const at = quoted(mountPath);
    const overlay = quoted(`${scratch}/o${index}`);
    lines.push(
      `if [ ! -d ${at} ]; then parent=$(dirname ${at}); while [ ! -d "$parent" ]; do parent=$(dirname "$parent"); done`,
      `  parent=$(readlink -f "$parent")`,
      `  mkdir -p ${overlay}/up ${overlay}/work`,
      `  mount -t overlay overlay -o lowerdir="$parent",upperdir=${overlay}/up,workdir=${overlay}/work "$parent"; mkdir -p ${at}; fi`,
    );
  });
  mounts.forEach(({ mountPath }, index) => {
    const [at, volume] = [quoted(mountPath), quoted(`${scratch}/v${index}`)];
    lines.push(`[ ${at} = /tmp ] || mount --bind ${volume} ${at}`);
  });
  return lines;
}

let readable: boolean | undefined;

/** The image's user; root when the checkout cannot be read by others. */
function asImageUser(command: string[]): string[] {
  const as = ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", "--no-new-privs"];
  readable ??=
    spawnSync(as[0] as string, [
      ...as.slice(1),
      process.execPath,
      "-e",
      `require("node:fs").readFileSync(${JSON.stringify(CLI)})`,
    ]).status === 0;
  return readable ? [...as, ...command] : command;
}

function withoutMounts(environment: NodeJS.ProcessEnv, mounts: readonly Mount[]): NodeJS.ProcessEnv {
  const moved = (value: string | undefined) => {
    const mount = mounts.find(({ mountPath }) => value === mountPath || value?.startsWith(`${mountPath}/`));
    return mount === undefined ? value : `${mount.directory}${value?.slice(mount.mountPath.length)}`;
  };
  return Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, moved(value)]));
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
