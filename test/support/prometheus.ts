/** A real Prometheus and its promtool: those on PATH, or Debian's package, unpacked into ~/.cache/pg-events (4 seconds). */
import { accessSync, constants, existsSync, globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { freePort } from "./cluster/free-port.ts";
import { runTool } from "./cluster/tool.ts";
import type { TestEnd } from "./postgres.ts";
import { startProcess } from "./processes.ts";
import { cachedPrograms, missing } from "./program-cache.ts";

const INSTALL =
  "No Prometheus: put prometheus and promtool on PATH; on Debian and Ubuntu apt-get brings them.";

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  /** When, in seconds, and what. */
  readonly value: readonly [number, string];
}

export interface Prometheus {
  /** The series that an expression has now. @throws Error with Prometheus' words when it does not take the expression */
  query(expression: string): Promise<Sample[]>;
}

/** Why the tests that need it are skipped; false when they are not. @throws Error with CI set, when it cannot be had */
export const prometheusMissing = (): Promise<string | false> => missing(program("promtool"), INSTALL);

/** Runs promtool and returns its output. @throws Error with it when it fails */
export async function promtool(args: readonly string[]): Promise<string> {
  const file = await program("promtool");
  if (file === null) throw new Error(INSTALL);
  return runTool(file, args, {});
}

/**
 * A server with this configuration, stopped after the test.
 * @param configuration a prometheus.yml; it may be JSON
 */
export async function startPrometheus(t: TestEnd, configuration: object): Promise<Prometheus> {
  const file = await program("prometheus");
  if (file === null) throw new Error(INSTALL);
  const directory = mkdtempSync(join(tmpdir(), "pg-events-prometheus-"));
  const config = join(directory, "prometheus.yml");
  writeFileSync(config, JSON.stringify(configuration));
  const address = `127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(directory, "data")}`,
    `--web.listen-address=${address}`,
  ];
  const server = startProcess(t, file, args);
  t.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  await server.waitForLine(/Server is ready/);
  return {
    async query(expression) {
      const body = new URLSearchParams({ query: expression });
      const response = await fetch(`http://${address}/api/v1/query`, { method: "POST", body });
      const answer = (await response.json()) as { error?: string; data: { result: Sample[] } };
      if (!response.ok) throw new Error(`${expression}: ${answer.error}`);
      return answer.data.result;
    },
  };
}

async function program(name: "prometheus" | "promtool"): Promise<string | null> {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    const file = join(directory, name);
    if (isProgram(file)) return file;
  }
  if (!existsSync("/usr/bin/apt-get")) return null;
  try {
    return join(await cachedPrograms("prometheus-of-debian", unpack), "usr/bin", name);
  } catch (error) {
    console.error(error); // no network, or no such package
    return null;
  }
}

/** Not installed: its service would start, and listen where others do. */
async function unpack(directory: string): Promise<void> {
  const download = () =>
    runTool("sh", ["-c", 'cd "$1" && apt-get download -q prometheus', "sh", directory], {});
  await download().catch(async () => {
    await runTool("apt-get", ["update", "-q"], {}); // a new machine knows of no packages
    await download();
  });
  const [archive] = globSync(join(directory, "*.deb"));
  if (archive === undefined) throw new Error(INSTALL);
  await runTool("dpkg", ["-x", archive, directory], {});
  rmSync(archive);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
