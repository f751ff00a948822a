/**
 * The programs of a control plane: those in KUBEBUILDER_ASSETS when it has all of them, else the one
 * program `kube` (main.go beside this file), built once and kept in a cache under the hash of what it is
 * built from. A file in the cache is complete: it is written elsewhere and renamed.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const VERSION = "k8s.io/component-base/version";
/** Without these the API server calls itself v0.0.0, and clients that look at the version refuse it. */
const LINKER_FLAGS = `-s -w -X ${VERSION}.gitVersion=v1.34.3 -X ${VERSION}.gitMajor=1 -X ${VERSION}.gitMinor=34`;
const SOURCES = import.meta.dirname;
const LOCK_POLL_MS = 500;
const NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/** Where what tests build or unpack is kept between runs. */
export function cacheDirectory(): string {
  return process.env.PG_EVENTS_CACHE ?? join(homedir(), ".cache", "pg-events");
}

/** Where the program of these sources belongs, built or not. */
export function kubePath(): string {
  const hash = createHash("sha256").update(LINKER_FLAGS);
  for (const file of ["main.go", "go.sum"]) hash.update(readFileSync(join(SOURCES, file)));
  return join(cacheDirectory(), `kube-${hash.digest("hex").slice(0, 16)}`, "kube");
}

/** @param kube what kubeProgram returned @returns the file to start, and the arguments to put first */
export function commandOf(kube: string, name: string): { file: string; args: string[] } {
  return statSync(kube).isDirectory() ? { file: join(kube, name), args: [] } : { file: kube, args: [name] };
}

/**
 * Builds the program unless it is there; minutes the first time.
 * @returns its path, or that of a directory with one program for each part; null when it has to be built
 *   and there is no `go`
 * @throws Error with the compiler's output
 */
export async function kubeProgram(): Promise<string | null> {
  const assets = process.env.KUBEBUILDER_ASSETS;
  if (assets !== undefined && NAMES.every((name) => existsSync(join(assets, name)))) return assets;
  const path = kubePath();
  if (existsSync(path)) return path;
  if ((await run("go", ["version"])).code !== 0) return null;
  const directory = join(path, "..");
  mkdirSync(directory, { recursive: true });
  const lock = join(directory, "building");
  while (!takeLock(lock)) {
    await sleep(LOCK_POLL_MS);
    if (existsSync(path)) return path;
  }
  try {
    if (!existsSync(path)) await build(path);
  } finally {
    rmSync(lock, { force: true });
  }
  return path;
}

async function build(path: string): Promise<void> {
  const unfinished = `${path}.${process.pid}`;
  const { code, output } = await run(
    "go",
    ["build", "-trimpath", "-ldflags", LINKER_FLAGS, "-o", unfinished, "."],
    SOURCES,
  );
  if (code !== 0) throw new Error(`go build in test/support/cluster failed:\n${output}`);
  renameSync(unfinished, path);
}

/** Test files run at the same time; only one of them builds. The lock of a process that is gone is void. */
function takeLock(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
  }
  try {
    const holder = Number(readFileSync(lock, "utf8"));
    if (holder > 0) process.kill(holder, 0);
  } catch {
    rmSync(lock, { force: true });
  }
  return false;
}

function run(file: string, args: string[], cwd?: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, CGO_ENABLED: "0" },
      ...(cwd === undefined ? {} : { cwd }),
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.once("error", (error) => resolve({ code: -1, output: error.message }));
    child.once("close", (code) => resolve({ code, output }));
  });
}
