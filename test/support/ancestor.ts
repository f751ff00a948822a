/**
 * The Python package pg_events 0.1.6, from which this program descends, to compare with. It needs Python
 * 3.11 or older (it imports `imp`); it is installed once into a virtual environment in the cache.
 */
import { existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "./cluster/binary.ts";
import { runTool } from "./cluster/tool.ts";

const PACKAGES = ["pg-events==0.1.6", "psycopg2-binary==2.9.10", "setuptools==69.5.1"];
const PYTHONS = ["python3.11", "python3.10", "python3.9", "python3"];
const INSTALL = "Install Python 3.11 or older with venv (Debian 12: python3 python3-venv).";

/** Path of the program `pg_events`; null, with the test skipped, without a fitting Python. With CI set that is an error. */
export async function useAncestor(t: { skip(message: string): void }): Promise<string | null> {
  const directory = join(cacheDirectory(), "ancestor-0.1.6");
  const program = join(directory, "bin", "pg_events");
  if (existsSync(program)) return program;
  const python = await oldPython();
  if (python === null) {
    if (process.env.CI) throw new Error(INSTALL);
    t.skip(`The Python package pg_events cannot be run. ${INSTALL}`);
    return null;
  }
  // A virtual environment knows its own path: it is made in its place, and counts once the program is there.
  const unfinished = `${directory}.old`;
  if (existsSync(directory)) renameSync(directory, unfinished);
  rmSync(unfinished, { recursive: true, force: true });
  await runTool(python, ["-m", "venv", directory], {});
  // Its setup asks for a psycopg2 that no Python of today can build; the newer one has the same interface.
  await runTool(join(directory, "bin", "pip"), ["install", "--quiet", ...PACKAGES.slice(1)], {});
  const options = ["install", "--quiet", "--no-deps", "--no-build-isolation"];
  await runTool(join(directory, "bin", "pip"), [...options, ...PACKAGES.slice(0, 1)], {});
  return program;
}

async function oldPython(): Promise<string | null> {
  for (const name of PYTHONS) {
    const works = await runTool(name, ["-W", "ignore", "-c", "import imp, venv"], {}).then(
      () => true,
      () => false,
    );
    if (works) return name;
  }
  return null;
}
