/**
 * Runs inside the thread of a module callback: imports the user's functions, calls them, and tells what
 * came of each call. An entry point of its own in the bundle (scripts/build.ts).
 */
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { type FunctionRef, filesOf, type ModuleFunctions } from "../core/delivery/module-functions.ts";
import type { CallRequest, ThreadInput, ThreadOutput, ThreadSetup } from "./module-messages.ts";
import { describeNotLoaded, describeThrown } from "./module-problem.ts";

/** What the functions get besides the event. */
interface Context {
  /** Id of the CloudEvent. */
  readonly id: string;
  /** Name of the callback. */
  readonly callback: string;
  /** The event's text: numbers keep all their digits there. */
  readonly json: string;
  /** Aborted when the call's time is over, a moment before it is given up. */
  readonly signal: AbortSignal;
}

type UserFunction = (event: unknown, context: Context) => unknown;
type Handlers = Record<CallRequest["handler"], UserFunction>;

/** Its message is ours: it may be shown. */
class NotLoaded extends Error {}

const { functions, callback, timeoutMs } = workerData as ThreadSetup;
const port = parentPort as MessagePort;
const files = filesOf(functions);

void start(); // not awaited: a module that waits for ever would be told as a fault of this file

async function start(): Promise<void> {
  try {
    const handlers = await load(functions);
    port.on("message", (input: ThreadInput) => void answer(handlers, input));
    tell({ kind: "Ready" });
  } catch (error) {
    const problem = error instanceof NotLoaded ? error.message : describeThrown(error, files);
    tell({ kind: "NotLoaded", problem });
  }
}

async function answer(handlers: Handlers, { call, handler, json, eventId }: ThreadInput): Promise<void> {
  try {
    await handlers[handler](functions.kind === "Module" ? JSON.parse(json) : json, contextOf(eventId, json));
    tell({ kind: "Returned", call });
  } catch (error) {
    const permanent = (error as { permanent?: unknown } | null)?.permanent === true;
    tell({ kind: "Threw", call, problem: `${handler} threw ${describeThrown(error, files)}`, permanent });
  }
}

function contextOf(id: string, json: string): Context {
  const endMs = performance.now() + timeoutMs;
  let signal: AbortSignal | undefined;
  return {
    id,
    callback,
    json,
    // Made when asked for: a timer for each call is more than most of them cost.
    get signal() {
      signal ??= AbortSignal.timeout(Math.max(0, Math.floor(endMs - performance.now())));
      return signal;
    },
  };
}

/** @throws NotLoaded */
async function load(wanted: ModuleFunctions): Promise<Handlers> {
  if (wanted.kind === "Module") {
    const exported = await importFile(wanted.file);
    const onData = exportOf(exported, "onData");
    if (onData === null) throw new NotLoaded(`${wanted.file} exports no function \`onData\``);
    return { onData, onSchemaChange: exportOf(exported, "onSchemaChange") ?? passOver };
  }
  const onData = await functionOf(wanted.onData);
  return {
    onData,
    onSchemaChange: wanted.onSchemaChange === null ? passOver : await functionOf(wanted.onSchemaChange),
  };
}

async function functionOf({ file, exportName }: FunctionRef): Promise<UserFunction> {
  const found = exportOf(await importFile(file), exportName);
  if (found === null) throw new NotLoaded(`${file} exports no function \`${exportName}\``);
  return found;
}

async function importFile(file: string): Promise<unknown> {
  if (!existsSync(file)) throw new NotLoaded(`there is no file ${file}`);
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    throw new NotLoaded(`${file} cannot be loaded: ${describeNotLoaded(error, file)}`);
  }
}

/** A named export, or a field of the default export: what CommonJS exports may be either. */
function exportOf(exported: unknown, name: string): UserFunction | null {
  const named = exported as Record<string, unknown>;
  for (const holder of [named, named.default as Record<string, unknown> | null | undefined]) {
    const found = holder?.[name];
    if (typeof found === "function") return found.bind(holder) as UserFunction;
  }
  return null;
}

function passOver(): void {}

function tell(output: ThreadOutput): void {
  port.postMessage(output);
}
