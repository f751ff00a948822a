/**
 * The three settings of the Python package pg_events: where each value comes from (the environment, then
 * the settings module), what it may be, and the PgEventSource that says the same. Finding and importing
 * the modules is the part of src/commands.
 */
import { parsePgEventSource } from "../api/parse.ts";
import { API_VERSION, KIND, type PgEventSource } from "../api/source.ts";
import { PgEventsError } from "../errors.ts";

export const DATABASE_URL = "PG_EVENTS_DATABASE_URL";
export const DATA_CALLBACK = "PG_EVENTS_DATA_UPDATE_CALLBACK";
export const SCHEMA_CALLBACK = "PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK";

const NAMES: readonly string[] = [DATABASE_URL, DATA_CALLBACK, SCHEMA_CALLBACK];
const PREFIX = "PG_EVENTS_";

/** What a module gives under one name. */
export type ModuleValue =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "function" }
  /** `type`: what it is instead, in a word. */
  | { readonly kind: "other"; readonly type: string };

export type ModuleValues = Readonly<Record<string, ModuleValue>>;

/** A callback as it is set: exported by the settings module itself, or named by a path. */
export type CallbackSetting =
  | { readonly kind: "exported" }
  | { readonly kind: "path"; readonly module: string; readonly functionName: string };

export interface ClassicSettings {
  readonly databaseUrl: string;
  /** Where the URL was set, for messages. */
  readonly databaseUrlFrom: string;
  readonly onData: CallbackSetting;
  /** Null without auto-rebuild. */
  readonly onSchemaChange: CallbackSetting | null;
}

export interface ClassicInput {
  /** What the settings module is called in messages. */
  readonly where: string;
  readonly values: ModuleValues;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The value of --database-url. */
  readonly databaseUrl: string | undefined;
  readonly autoRebuild: boolean;
}

/** @throws PgEventsError PGE_SETTINGS_INVALID for the first value that is missing or cannot be used */
export function chooseClassicSettings(input: ClassicInput): ClassicSettings {
  const unknown = Object.keys(input.values).find((name) => name.startsWith(PREFIX) && !NAMES.includes(name));
  if (unknown !== undefined)
    throw settingsInvalid(
      `${unknown} in ${input.where} is not a setting.`,
      `The settings are ${NAMES.join(", ")}; all others are flags or variables of the environment.`,
    );
  return {
    ...databaseUrlOf(input),
    onData: callbackOf(DATA_CALLBACK, input),
    onSchemaChange: input.autoRebuild ? callbackOf(SCHEMA_CALLBACK, input) : null,
  };
}

/**
 * The source that classic settings stand for: every table, one call at a time in the order of commits.
 * pg_events bounded neither the time nor the memory of a function, so both bounds are wide here.
 * @param path the file with the function that gets the data changes
 */
export function classicSource(path: string, autoRebuild: boolean): PgEventSource {
  const spec = {
    capture: { context: { query: true }, schemaChanges: autoRebuild ? "Auto" : "Off" },
    callbacks: [
      {
        name: "classic",
        ordering: "Key",
        module: { path, format: "Classic", memoryMegabytes: 1024 },
        delivery: { maxInFlight: 1, timeoutSeconds: 600 },
      },
    ],
  };
  const source = { apiVersion: API_VERSION, kind: KIND, metadata: { name: "classic" }, spec };
  return parsePgEventSource(source, "the source of the classic settings");
}

/** The words of Python's `strtobool`, which pg_events read --auto-rebuild with; undefined for any other. */
export function booleanOf(word: string): boolean | undefined {
  const lower = word.toLowerCase();
  if (["y", "yes", "t", "true", "on", "1"].includes(lower)) return true;
  if (["n", "no", "f", "false", "off", "0"].includes(lower)) return false;
  return undefined;
}

/** The text without the user and password of any URL in it; for texts that others wrote. */
export function withoutCredentials(text: string): string {
  return text.replace(/:\/\/\S*@/g, "://[hidden]@");
}

export function settingsInvalid(message: string, remedy: string): PgEventsError {
  return new PgEventsError("PGE_SETTINGS_INVALID", message, { remedy });
}

function databaseUrlOf(input: ClassicInput): Pick<ClassicSettings, "databaseUrl" | "databaseUrlFrom"> {
  if (input.databaseUrl !== undefined)
    return { databaseUrl: input.databaseUrl, databaseUrlFrom: "--database-url" };
  const { value, from } = settingOf(DATABASE_URL, input, "or give --database-url");
  if (value.kind !== "text")
    throw settingsInvalid(`${DATABASE_URL} in ${from} is ${typeOf(value)}.`, "Write the URL as text.");
  return { databaseUrl: value.text, databaseUrlFrom: `${DATABASE_URL} in ${from}` };
}

function callbackOf(name: string, input: ClassicInput): CallbackSetting {
  const otherwise = name === SCHEMA_CALLBACK ? "or give --auto-rebuild false" : undefined;
  const { value, from } = settingOf(name, input, otherwise);
  if (value.kind === "function") return { kind: "exported" };
  const remedy = "Write it as module.function, for example app.callbacks.onData.";
  if (value.kind === "other") throw settingsInvalid(`${name} in ${from} is ${typeOf(value)}.`, remedy);
  const dot = value.text.lastIndexOf(".");
  const [module, functionName] = [value.text.slice(0, dot), value.text.slice(dot + 1)];
  if (dot < 1 || functionName === "" || /\s/.test(functionName)) {
    const shown = withoutCredentials(JSON.stringify(value.text));
    throw settingsInvalid(`${name} in ${from} is ${shown}, which names no function of a module.`, remedy);
  }
  return { kind: "path", module, functionName };
}

/** The environment first: it is what a deployment changes. An empty value counts as none. */
function settingOf(
  name: string,
  input: ClassicInput,
  otherwise: string | undefined,
): { value: ModuleValue; from: string } {
  const text = input.environment[name];
  if (text !== undefined && text !== "") return { value: { kind: "text", text }, from: "the environment" };
  const value = input.values[name];
  const empty = value?.kind === "text" ? value.text === "" : value?.kind === "other" && isNothing(value.type);
  if (value !== undefined && !empty) return { value, from: input.where };
  const state = value === undefined ? "missing" : "empty";
  const places = [`Set it in ${input.where}`, "or as a variable of the environment", otherwise];
  throw settingsInvalid(
    `${name} is ${state}.`,
    `${places.filter((place) => place !== undefined).join(", ")}.`,
  );
}

function isNothing(type: string): boolean {
  return type === "undefined" || type === "null";
}

function typeOf(value: ModuleValue): string {
  if (value.kind === "function") return "a function";
  if (value.kind === "text") return "text";
  return `of the type ${value.type}`;
}
