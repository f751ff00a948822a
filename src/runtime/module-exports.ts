/**
 * What a user's module exports, as data. The module is imported in a thread that ends at once: its timers
 * and connections keep no command from ending, its `process.exit` ends only the thread, and what it
 * prints goes to standard error, where no SQL or JSON is read from.
 */
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { type ModuleValues, withoutCredentials } from "../core/settings/classic.ts";
import type { ThreadAnswer, ThreadInput } from "./module-exports-thread.ts";

/** A module that connects to something while it is loaded gets its time. */
const LOAD_TIMEOUT_MS = 30_000;

const THREAD = new URL(
  import.meta.url.endsWith(".ts") ? "./module-exports-thread.ts" : "./module-exports-thread.js",
  import.meta.url,
);

export type ModuleExports =
  | { readonly kind: "exports"; readonly values: ModuleValues }
  /** `problem`: one line for a message; no stack, no credentials. */
  | { readonly kind: "failed"; readonly problem: string };

/** Never rejects: what goes wrong in the module is told. */
export async function moduleExports(file: string, timeoutMs = LOAD_TIMEOUT_MS): Promise<ModuleExports> {
  const workerData: ThreadInput = { url: pathToFileURL(file).href };
  // Without a package.json Node has to guess what a .js file is. It guesses right, and warns each time.
  const execArgv = ["--disable-warning=MODULE_TYPELESS_PACKAGE_JSON"];
  const thread = new Worker(THREAD, { workerData, execArgv, stdout: true });
  thread.stdout.pipe(process.stderr, { end: false });
  const loading = Promise.withResolvers<ModuleExports>();
  const fail = (problem: string) => loading.resolve({ kind: "failed", problem });
  const timer = setTimeout(() => fail(`was not loaded within ${timeoutMs / 1000} seconds`), timeoutMs);
  thread.on("message", (answer: ThreadAnswer) => {
    if ("values" in answer) loading.resolve({ kind: "exports", values: answer.values });
    else fail(problemOf(answer.failure, file));
  });
  thread.on("error", (error: unknown) =>
    fail(problemOf(error instanceof Error ? error : new Error(String(error)), file)),
  );
  thread.on("exit", () => fail("ended before it was loaded: it exits, or waits for what never comes"));
  try {
    return await loading.promise;
  } finally {
    clearTimeout(timer);
    await thread.terminate();
  }
}

function problemOf(failure: { name: string; message: string; stack?: string }, file: string): string {
  const line = failure.message.split("\n", 1)[0] ?? "";
  const [, place, number] = /^(?:file:\/\/)?(\/.*|[A-Za-z]:.*):(\d+)\n/.exec(failure.stack ?? "") ?? [];
  const where =
    place === undefined ? "" : place === file ? ` in line ${number}` : ` in line ${number} of ${place}`;
  return `cannot be loaded: ${withoutCredentials(`${failure.name}: ${line}`)}${where}`;
}
