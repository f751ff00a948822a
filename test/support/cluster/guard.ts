/**
 * A process that ends others when this one is gone, however it went: it reads a pipe from us, and the end
 * of the pipe is the end of us. Then it kills what it watches and removes the directory.
 */
import { spawn } from "node:child_process";

const PROGRAM = `
  const { rmSync } = require("node:fs");
  const directory = process.argv[1];
  const watched = new Set();
  let rest = "";
  process.stdin.setEncoding("utf8");
  process.stdin.on("data", (text) => {
    const lines = (rest + text).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      const [word, pid] = line.split(" ");
      if (word === "watch") watched.add(Number(pid));
      if (word === "forget") watched.delete(Number(pid));
      if (word === "release") process.exit(0);
    }
  });
  const running = (pid) => { try { process.kill(pid, 0); return true; } catch { return false; } };
  process.stdin.on("end", () => {
    for (const pid of watched) try { process.kill(pid, "SIGKILL"); } catch {}
    const timer = setInterval(() => {
      if ([...watched].some(running)) return;
      clearInterval(timer);
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
    }, 50);
  });`;

export interface Guard {
  watch(pid: number): void;
  /** Must be called when a watched process has ended, before its number can be another's. */
  forget(pid: number): void;
  /** The guard ends and touches nothing. */
  release(): void;
}

export function startGuard(directory: string): Guard {
  const guard = spawn(process.execPath, ["-e", PROGRAM, directory], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    cwd: "/",
  });
  guard.unref();
  guard.stdin.on("error", () => undefined);
  (guard.stdin as unknown as { unref?(): void }).unref?.();
  const say = (line: string) => void guard.stdin.write(`${line}\n`);
  return {
    watch: (pid) => say(`watch ${pid}`),
    forget: (pid) => say(`forget ${pid}`),
    release: () => say("release"),
  };
}
