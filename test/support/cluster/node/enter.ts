/**
 * Runs a command in namespaces of its own (namespace.sh), in which a node can be started. What is changed
 * outside of them, control groups and settings of the kernel that a kubelet wants otherwise, is put back by a
 * process that outlives this one (restore.ts).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { SERVICE_NETWORK } from "../components.ts";
import type { Restored } from "./restore.ts";

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
  const restoring = startRestoring({ directory, groups, settings: before });
  const restored = once(restoring, "close");
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
    restoring.stdin?.end();
    if ((await restored)[0] !== 0) console.error("The machine could not be put back as it was.");
  }
}

function startRestoring(what: Restored): ChildProcess {
  const args = [join(import.meta.dirname, "restore.ts"), JSON.stringify(what)];
  return spawn(process.execPath, args, { stdio: ["pipe", "inherit", "inherit"], detached: true });
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
