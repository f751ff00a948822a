/** The thread of module-exports.ts: imports one file and tells what it exports. */
import { parentPort, workerData } from "node:worker_threads";
import type { ModuleValue } from "../core/settings/classic.ts";

export interface ThreadInput {
  readonly url: string;
}

export type ThreadAnswer =
  | { readonly values: Record<string, ModuleValue> }
  /** `stack` may begin with the place of a syntax error, which the message lacks. */
  | { readonly failure: { readonly name: string; readonly message: string; readonly stack: string } };

async function answer({ url }: ThreadInput): Promise<ThreadAnswer> {
  try {
    const exports = (await import(url)) as Record<string, unknown>;
    const fields = typeof exports.default === "object" ? { ...exports.default } : {};
    const values = Object.entries({ ...fields, ...exports }).map(([name, value]) => [name, describe(value)]);
    return { values: Object.fromEntries(values) };
  } catch (error) {
    const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
    return { failure: { name, message, stack: stack ?? "" } };
  }
}

function describe(value: unknown): ModuleValue {
  if (typeof value === "string") return { kind: "text", text: value };
  if (typeof value === "function") return { kind: "function" };
  return { kind: "other", type: value === null ? "null" : typeof value };
}

// Not awaited: a module that waits forever would else keep this file from being loaded.
void answer(workerData as ThreadInput).then((message) => parentPort?.postMessage(message));
