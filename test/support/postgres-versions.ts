/** Servers of other majors of PostgreSQL than the embedded one. */
import pg from "pg";
import type { EmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { startSharedServer, type TestEnd } from "./postgres.ts";
import { programsOf } from "./postgres-programs.ts";

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
