/** The program as a real process, and waiting for what happens in other processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestEnd } from "./postgres.ts";

const CLI = join(import.meta.dirname, "../../src/cli.ts");
const LINE_TIMEOUT_MS = 20_000;
const POLL_MS = 25;
const TOLD_LINES = 20;

/** Begins what is told of a process of a test that failed; the end of the report repeats it. */
export const ACCOUNT = "wrote at last:";

export interface CliOptions {
  /** Added to this process's environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** The program of another checkout; default: this one's. */
  readonly cli?: string;
}

export interface CliProcess {
  readonly pid: number;
  /** What it has written so far. */
  readonly stdout: string;
  readonly stderr: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Waits for a line of stdout or stderr; lines already written count. Rejects when the process ends without it. */
  waitForLine(pattern: RegExp, timeoutMs?: number): Promise<string>;
  kill(signal?: NodeJS.Signals): void;
}

/** Starts `pg-events <args>`; killed at the end of the test if it still runs. */
export function startCli(t: TestEnd, args: readonly string[], options: CliOptions = {}): CliProcess {
  return startProcess(t, process.execPath, [options.cli ?? CLI, ...args], options);
}

/** Starts any program; killed at the end of the test if it still runs. */
export function startProcess(
  t: TestEnd,
  file: string,
  args: readonly string[],
  options: CliOptions = {},
): CliProcess {
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: environment(options.env ?? {}),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  return followProcess(t, child);
}

/** Runs `pg-events <args>` to its end. */
export async function runCli(
  t: TestEnd,
  args: readonly string[],
  options: CliOptions = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const cli = startCli(t, args, options);
  const { code } = await cli.exited;
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}

/**
 * Polls until `attempt` neither throws nor gives a falsy value, and returns what it gave.
 * @throws Error with `what` and the last error when the time is over
 */
export async function eventually<T>(
  attempt: () => Promise<T> | T,
  options: { timeoutMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const { timeoutMs = 15_000, what = "what the test waits for" } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    try {
      const value = await attempt();
      if (value) return value;
      failure = `the last value was ${String(value)}`;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline) {
      const reason = failure instanceof Error ? failure.message : String(failure);
      throw new Error(`Not within ${timeoutMs} ms: ${what} (${reason})`, { cause: failure });
    }
    await sleep(POLL_MS);
  }
}

function followProcess(t: TestEnd, child: ChildProcess): CliProcess {
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (chunk: string) => {
      output[name] += chunk;
    });
  }
  // `close` comes after the last output, `exit` may come before it.
  const exited = once(child, "close").then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  let ended = false;
  const noted = exited.then(() => {
    ended = true;
  });
  t.after(async () => {
    if (!ended) child.kill("SIGKILL");
    await noted;
    if (t.passed === false) t.diagnostic?.(accountOf(child, output));
  });
  return {
    pid: child.pid as number,
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    exited,
    kill: (signal = "SIGTERM") => void child.kill(signal),
    waitForLine: (pattern, timeoutMs = LINE_TIMEOUT_MS) => waitForLine(child, output, pattern, timeoutMs),
  };
}

function accountOf(
  { spawnargs }: ChildProcess,
  { stdout, stderr }: { stdout: string; stderr: string },
): string {
  const last = [stdout, stderr].flatMap((text) => text.trimEnd().split("\n").slice(-TOLD_LINES));
  return [`${ACCOUNT} ${spawnargs.join(" ")}`, ...last].join("\n");
}

function waitForLine(
  child: ChildProcess,
  output: { stdout: string; stderr: string },
  pattern: RegExp,
  timeoutMs: number,
): Promise<string> {
  const find = () => `${output.stdout}\n${output.stderr}`.split("\n").find((line) => pattern.test(line));
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => {
      clearTimeout(timer);
      child.stdout?.off("data", look);
      child.stderr?.off("data", look);
      child.off("close", closed);
      settle();
    };
    const failure = (why: string) =>
      new Error(`${why} without ${pattern}:\n${output.stdout}${output.stderr}`);
    const look = () => {
      const line = find();
      if (line !== undefined) finish(() => resolve(line));
    };
    const closed = () => finish(() => reject(failure("The process ended")));
    const timer = setTimeout(() => finish(() => reject(failure(`${timeoutMs} ms passed`))), timeoutMs);
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
    child.once("close", closed);
    look();
    if (find() === undefined && child.exitCode !== null && child.stdout?.readableEnded === true) closed();
  });
}

/** Ours, without what would make this process's test reporter or database leak into the program. */
function environment(changes: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _, PG_EVENTS_DATABASE_URL: __, ...kept } = process.env;
  return { ...kept, ...changes };
}
