/** A PostgreSQL that a package has installed, with the tools that the embedded one lacks. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { join } from "node:path";
import { type PostgresPrograms, serverUser } from "../../src/runtime/embedded-postgres-binaries.ts";
import type { TestEnd } from "./postgres.ts";

const DIRECTORIES = ["/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin"];
const TOOLS = ["initdb", "postgres", "pg_dump", "psql", "pg_resetwal"] as const;
/** Older ones are not supported. */
const LEAST_MAJOR = 14;

export interface InstalledPostgres {
  readonly programs: PostgresPrograms;
  /** Runs a tool to its end as the user of servers. @throws Error with what it wrote */
  run(tool: (typeof TOOLS)[number], args: readonly string[], input?: string): string;
}

/** The newest that is installed; null, with the test skipped, where there is none. With CI set that is an error. */
export function useInstalledPostgres(t: TestEnd & { skip(message: string): void }): InstalledPostgres | null {
  const bin = globSync(DIRECTORIES)
    .filter((directory) => TOOLS.every((tool) => existsSync(join(directory, tool))))
    .filter((directory) => majorOf(directory) >= LEAST_MAJOR)
    .sort((a, b) => majorOf(b) - majorOf(a))[0];
  if (bin === undefined) {
    const message = `No PostgreSQL with ${TOOLS.join(", ")} is installed.`;
    if (process.env.CI) throw new Error(message);
    t.skip(message);
    return null;
  }
  return {
    programs: { initdb: join(bin, "initdb"), postgres: join(bin, "postgres") },
    run: (tool, args, input = "") => {
      const { status, stdout, stderr }: SpawnSyncReturns<string> = spawnSync(join(bin, tool), args, {
        ...serverUser(),
        cwd: "/",
        encoding: "utf8",
        input,
        maxBuffer: 2 ** 28,
      });
      if (status !== 0) throw new Error(`${tool} ended with ${status}: ${stderr}`);
      return stdout;
    },
  };
}

function majorOf(directory: string): number {
  return Number(/\d+/.exec(directory)?.[0]);
}
