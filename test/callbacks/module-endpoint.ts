/** Module callbacks for tests: real files in a directory, run by a transport as the worker makes it. */
import { mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { createTransport } from "../../src/callbacks/registry.ts";
import { callbackSchema } from "../../src/core/api/callback.ts";
import type { ModuleFunctions } from "../../src/core/delivery/module-functions.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import type { ChangeEvent } from "../../src/core/event.ts";
import { changeEvent } from "../support/change-event.ts";
import { transportDependencies } from "./http-endpoint.ts";

export interface ModuleSetup {
  /** Default: index.mjs. */
  readonly name?: string;
  readonly format?: "CloudEvents" | "Classic";
  readonly memoryMegabytes?: number;
  readonly delivery?: { readonly timeoutSeconds?: number; readonly maxInFlight?: number };
  readonly functions?: (file: string) => ModuleFunctions;
}

export interface ModuleEndpoint {
  readonly transport: Transport;
  readonly file: string;
  /** Replaces the file as an editor or the kubelet does: another one takes its name. */
  write(text: string): void;
  remove(): void;
}

/** A module with this text; the transport is closed and the file removed after the test. */
export function moduleCallback(t: TestContext, text: string, setup: ModuleSetup = {}): ModuleEndpoint {
  const { name = "index.mjs", format, memoryMegabytes, delivery = {} } = setup;
  const { functions = (file): ModuleFunctions => ({ kind: "Module", file }) } = setup;
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "pg-events-module-")));
  const file = join(directory, name);
  const write = (changed: string) => {
    writeFileSync(`${file}.new`, changed);
    renameSync(`${file}.new`, file);
  };
  write(text);
  const callback = callbackSchema.parse({
    name: "orders",
    module: { path: file, format, memoryMegabytes },
    delivery,
  });
  const transport = createTransport(
    callback,
    transportDependencies({ moduleFunctions: () => functions(file) }),
  );
  t.after(async () => {
    await transport.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { transport, file, write, remove: () => rmSync(file) };
}

/** Text of a module that sends each event to a receiver and takes its answer: 422 is for good. */
export function forwardingModule(url: string): string {
  return `
    export async function onData(event, { json }) {
      const headers = { "content-type": "application/cloudevents+json; charset=utf-8" };
      const { ok, status } = await fetch(${JSON.stringify(url)}, { method: "POST", body: json, headers });
      if (!ok) throw Object.assign(new Error("refused: " + json), { permanent: status === 422 });
    }`;
}

/** A module that keeps what its functions get in the file `log` beside it, a JSON value a line. */
export const LOGGING = `
  import { appendFileSync } from "node:fs";
  const log = (value) => appendFileSync(new URL("log", import.meta.url), JSON.stringify(value) + "\\n");
`;

/** What such a module has kept. */
export function logOf(file: string): unknown[] {
  try {
    const lines = readFileSync(join(dirname(file), "log"), "utf8")
      .trimEnd()
      .split("\n");
    return lines.map((line) => JSON.parse(line));
  } catch {
    return [];
  }
}

/** An insert into public.orders of a row whose `mode` says what the module is to do. */
export function modeEvent(id: number, mode: string): ChangeEvent {
  return changeEvent({ id: String(id), key: `[${id}]`, new: JSON.stringify({ id, mode, secret: "4711" }) });
}
