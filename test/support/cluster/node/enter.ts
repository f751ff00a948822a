/**
 * Runs a command in namespaces of its own (namespace.sh), in which a node can be started, and puts back what
 * is changed outside of them: control groups, and the settings of the kernel that a kubelet wants otherwise.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { eventually } from "../../processes.ts";
import { SERVICE_NETWORK } from "../components.ts";

const ADDRESS = "10.86.0.1";
const CONTROL_GROUPS = "/sys/fs/cgroup";
const KERNEL_SETTINGS = [
  "vm/overcommit_memory",
  "vm/panic_on_oom",
  "kernel/panic",
  "kernel/panic_on_oops",
  "kernel/keys/root_maxkeys",
  "kernel/keys/root_maxbytes",
];

export interface NodeEnvironment {
  /** Archives of images. */
  readonly images: readonly string[];
  readonly address: string;
  /** Name of the control group that everything of the node is in, in each hierarchy. */
  readonly controlGroup: string;
}

/** @returns the command's exit code. When this process is killed the command goes with it, and all it started. */
export async function runInNode(command: readonly string[], images: readonly string[]): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-node-"));
  const controlGroup = basename(directory);
  const settings = KERNEL_SETTINGS.map((name) => `/proc/sys/${name}`).filter((path) => existsSync(path));
  const before = settings.map((path) => [path, readFileSync(path, "utf8")] as const);
  const groups = hierarchies().map((path) => join(path, controlGroup));
  const environment: NodeEnvironment = { images, address: ADDRESS, controlGroup };
  let child: ChildProcess | null = null;
  // The terminal sends Ctrl-C to the command as well, which then ends in order.
  const wait = () => undefined;
  const kill = () => void child?.kill("SIGKILL");
  process.on("SIGINT", wait).on("SIGTERM", kill).on("SIGHUP", kill);
  try {
    for (const path of groups) mkdirSync(path);
    const namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    child = spawn(
      "setpriv",
      [
        "--pdeathsig",
        "KILL",
        ...namespaces,
        join(import.meta.dirname, "namespace.sh"),
        ADDRESS,
        SERVICE_NETWORK,
        ...command,
      ],
      {
        stdio: "inherit",
        env: { ...process.env, TMPDIR: directory, PG_EVENTS_TEST_NODE: JSON.stringify(environment) },
      },
    );
    const [code] = await once(child, "close");
    return code ?? 1;
  } finally {
    process.off("SIGINT", wait).off("SIGTERM", kill).off("SIGHUP", kill);
    for (const [path, value] of before) if (readFileSync(path, "utf8") !== value) writeFileSync(path, value);
    // What was killed takes a moment to be gone.
    rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
    await eventually(() => groups.every(removeGroup), { what: "the end of the node's control groups" });
  }
}

/** What runInNode tells the command; null outside of it. */
export function nodeEnvironment(): NodeEnvironment | null {
  const text = process.env.PG_EVENTS_TEST_NODE;
  return text === undefined ? null : (JSON.parse(text) as NodeEnvironment);
}

/** One with version 2 of control groups, one for each controller with version 1. */
function hierarchies(): string[] {
  if (existsSync(join(CONTROL_GROUPS, "cgroup.controllers"))) return [CONTROL_GROUPS];
  return globSync(`${CONTROL_GROUPS}/*/cgroup.procs`).map((path) => join(path, ".."));
}

function removeGroup(path: string): true {
  if (!existsSync(path)) return true;
  for (const child of globSync(`${path}/*/`)) removeGroup(child);
  rmdirSync(path);
  return true;
}
