/** A broker as a process that can be killed, frozen and started again; it never outlives the process that started it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { startGuard } from "../cluster/guard.ts";
import { eventually } from "../processes.ts";

export interface BrokerProcess {
  /** Starts it again, after `kill`, with the same data; returns when it listens. */
  start(): Promise<void>;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
  /** It keeps its connections and answers nothing; returns when that is so. */
  freeze(): Promise<void>;
  thaw(): void;
  /** Ends it for good and removes the directory. */
  stop(): Promise<void>;
}

export interface BrokerCommand {
  readonly file: string;
  readonly args: readonly string[];
  /** Removed at the end. */
  readonly directory: string;
  /** Where it listens once it works. Default: 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
}

/** @throws Error with its output when it does not listen in time */
export async function startBroker(command: BrokerCommand): Promise<BrokerProcess> {
  const guard = startGuard(command.directory);
  let child: ChildProcess | null = null;
  let output = "";
  const end = async (): Promise<void> => {
    if (child === null) return;
    const ending = child;
    child = null;
    if (ending.exitCode === null && ending.signalCode === null) {
      ending.ref();
      const exited = once(ending, "exit");
      ending.kill("SIGKILL");
      await exited;
    }
    guard.forget(ending.pid as number);
  };
  const start = async (): Promise<void> => {
    output = "";
    const started = spawn(command.file, command.args, { stdio: ["ignore", "pipe", "pipe"] });
    child = started;
    started.unref();
    for (const stream of [started.stdout, started.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output = (output + text).slice(-10_000);
      });
      (stream as unknown as { unref(): void }).unref();
    }
    guard.watch(started.pid as number);
    await eventually(() => started.exitCode !== null || listens(command), {
      timeoutMs: 60_000,
      what: "a broker",
    });
    if (started.exitCode !== null) throw new Error(`The broker ended: ${output}`);
  };
  await start();
  return {
    start,
    kill: end,
    async freeze() {
      child?.kill("SIGSTOP");
      await eventually(() => isStopped(child?.pid));
    },
    thaw: () => void child?.kill("SIGCONT"),
    async stop() {
      await end();
      guard.release();
      rmSync(command.directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The state of a process follows its name, which may hold anything. */
function isStopped(pid: number | undefined): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
}

function listens({ host = "127.0.0.1", port }: BrokerCommand): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
