/** `--settings`: the settings of the Python package pg_events, read into what the commands work with. */
import { dirname } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { PgEventSource } from "../core/api/source.ts";
import type { FunctionRef, ModuleFunctions } from "../core/delivery/module-functions.ts";
import {
  booleanOf,
  type CallbackSetting,
  chooseClassicSettings,
  classicSource,
  DATA_CALLBACK,
  type ModuleValues,
  SCHEMA_CALLBACK,
  settingsInvalid,
} from "../core/settings/classic.ts";
import { type DatabaseSettings, databaseFromUrl } from "../core/settings/database.ts";
import { hideSecret } from "../runtime/log.ts";
import { callbackFile, lookedForCallback, readModule, settingsFile, shown } from "./settings-module.ts";

export interface SettingsFlags {
  readonly settings?: string | undefined;
  readonly autoRebuild?: boolean | undefined;
  readonly databaseUrl?: string | undefined;
}

export interface ClassicInputs {
  /** Absolute path of the settings module. */
  readonly file: string;
  readonly source: PgEventSource;
  readonly database: DatabaseSettings;
  readonly functions: ModuleFunctions;
}

export function settingsOption(): Option {
  return new Option(
    "--settings <module>",
    "settings of the Python package pg_events, as JavaScript, TypeScript or YAML: a file or a module's name; instead of --manifest",
  ).conflicts("manifest");
}

/** Adds `--settings` and `--auto-rebuild`. */
export function withSettingsOptions(command: Command): Command {
  return command
    .addOption(settingsOption())
    .addOption(
      new Option(
        "--auto-rebuild <boolean>",
        "with --settings: renew capture when tables change, and tell the function for it (default: true)",
      ).argParser(parseBoolean),
    );
}

/** @throws CommanderError for flags that do not go together */
export function checkSettingsFlags({ settings, autoRebuild }: SettingsFlags, command: Command): void {
  if (settings === undefined && autoRebuild !== undefined)
    command.error(
      "error: option '--auto-rebuild' needs '--settings'; a manifest has spec.capture.schemaChanges",
    );
}

/**
 * Imports the settings module and the modules of its functions, as pg_events does in both commands: a
 * wrong name is told by `build`, before a worker runs.
 * @throws PgEventsError PGE_SETTINGS_UNREADABLE, PGE_SETTINGS_INVALID or PGE_DATABASE_URL_INVALID
 */
export async function readClassicSettings(name: string, flags: SettingsFlags): Promise<ClassicInputs> {
  const { autoRebuild = true, databaseUrl } = flags;
  const file = settingsFile(name);
  const values = await readModule(file);
  const chosen = chooseClassicSettings({
    where: shown(file),
    values,
    environment: process.env,
    databaseUrl,
    autoRebuild,
  });
  const database = databaseFromUrl(chosen.databaseUrl, chosen.databaseUrlFrom);
  if (database.password !== undefined) hideSecret(database.password);
  hideSecret(chosen.databaseUrl);
  const resolver = functionResolver(file, values);
  const onData = await resolver(DATA_CALLBACK, chosen.onData);
  const onSchemaChange =
    chosen.onSchemaChange === null ? null : await resolver(SCHEMA_CALLBACK, chosen.onSchemaChange);
  return {
    file,
    source: classicSource(onData.file, autoRebuild),
    database,
    functions: { kind: "Functions", onData, onSchemaChange },
  };
}

/** Finds functions; each module is imported once. */
function functionResolver(settings: string, values: ModuleValues) {
  const known = new Map<string, ModuleValues>([[settings, values]]);
  const directories = [process.cwd(), dirname(settings)];
  return async (name: string, setting: CallbackSetting): Promise<FunctionRef> => {
    if (setting.kind === "exported") return { file: settings, exportName: name };
    const { module, functionName } = setting;
    const file = callbackFile(module, directories);
    if (file === null)
      throw settingsInvalid(
        `${name} names the module ${module}, which does not exist: ${lookedForCallback(module, directories)}.`,
        "Write it as module.function, for example app.callbacks.onData.",
      );
    const exports = known.get(file) ?? (await readModule(file));
    known.set(file, exports);
    if (exports[functionName]?.kind === "function") return { file, exportName: functionName };
    throw settingsInvalid(
      `${name} names the function ${functionName}, which ${shown(file)} does not export.`,
      functionsOf(exports),
    );
  };
}

function functionsOf(exports: ModuleValues): string {
  const names = Object.keys(exports).filter((name) => exports[name]?.kind === "function");
  return names.length === 0 ? "It exports no function." : `Its functions are ${names.join(", ")}.`;
}

function parseBoolean(word: string): boolean {
  const value = booleanOf(word);
  if (value === undefined) throw new InvalidArgumentError("Use true or false.");
  return value;
}
