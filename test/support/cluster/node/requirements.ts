/** What a machine needs for a node that runs containers, besides what the control plane needs. */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const PROGRAMS = [
  "buildah",
  "conntrack",
  "containerd",
  "ctr",
  "ip",
  "iptables",
  "mmdebstrap",
  "runc",
  "setpriv",
  "unshare",
];
/** Where distributions put the plugins of CNI. */
const PLUGINS = ["/usr/lib/cni", "/opt/cni/bin"];

/** What is missing here, a line each; empty when a node can be started. */
export function missingForNode(): string[] {
  const lacks: string[] = [];
  if (process.platform !== "linux" || process.arch !== "x64") return ["Linux on x64"];
  if (process.getuid?.() !== 0) lacks.push("to be root: containers, mounts and network namespaces are made");
  const programs = PROGRAMS.filter((name) => !isOnPath(name));
  if (cniPlugins() === null) programs.push("the CNI plugins");
  if (programs.length > 0)
    lacks.push(`${programs.join(", ")}: scripts/cluster-packages.sh installs them on Debian and Ubuntu`);
  if (!isOnPath("go")) lacks.push("Go 1.24 or later (https://go.dev/doc/install)");
  return lacks;
}

/** The directory with CNI's plugins, or null. */
export function cniPlugins(): string | null {
  return PLUGINS.find((directory) => existsSync(join(directory, "bridge"))) ?? null;
}

function isOnPath(name: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
