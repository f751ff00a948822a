/**
 * A small process that outlives this one for a moment: when this process is gone, however it ended, the
 * guard ends the watched process and removes its directory.
 *
 * It learns of our end by the end of a pipe that only we hold open, so that SIGKILL is noticed as well.
 */
import { spawn } from "node:child_process";

export interface ProcessGuard {
  /** The process to end after us; it takes the place of the one before. */
  watch(pid: number): void;
  /** Nothing is left to guard: the guard ends and touches nothing. */
  release(): void;
}

/** @param directory removed after our end; null: nothing is removed */
export function startProcessGuard(directory: string | null): ProcessGuard {
  const program = `(${guard.toString()})(process.argv[1])`;
  const child = spawn(process.execPath, ["-e", program, directory ?? ""], {
    cwd: "/",
    detached: true, // a signal to our process group must not reach it
    env: {},
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.unref();
  child.stdin.on("error", () => undefined); // somebody ended the guard: nothing to do about it here
  return {
    watch: (pid) => void child.stdin.write(`${pid}\n`),
    release: () => void child.stdin.end("release\n"),
  };
}

/** Runs in the guard process from its source text: it may use nothing of this module. */
function guard(directory: string): void {
  const milliseconds = { beforeQuit: 3000, beforeKill: 6000, betweenLooks: 50 };
  let received = "";
  process.stdin.on("data", (chunk) => {
    received += String(chunk);
  });
  process.stdin.on("end", () => {
    const last = received.trim().split("\n").pop() ?? "";
    if (last === "release") process.exit(0);
    const pid = Number(last); // 0 when there is none yet
    const signal = (name: NodeJS.Signals | 0): boolean => {
      try {
        return pid > 0 && process.kill(pid, name);
      } catch {
        return false;
      }
    };
    const started = performance.now();
    signal("SIGINT");
    setInterval(() => {
      const waited = performance.now() - started;
      if (signal(0)) {
        if (waited > milliseconds.beforeKill) signal("SIGKILL");
        else if (waited > milliseconds.beforeQuit) signal("SIGQUIT");
        return;
      }
      if (directory !== "")
        process.getBuiltinModule("node:fs").rmSync(directory, { recursive: true, force: true });
      process.exit(0);
    }, milliseconds.betweenLooks);
  });
}
