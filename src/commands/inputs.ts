/** A source and its database, from `--manifest` or `--settings`. */
import type { Command } from "commander";
import type { PgEventSource } from "../core/api/source.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { type DatabaseOptions, databaseOf, readManifest } from "./manifest.ts";
import { checkSettingsFlags, readClassicSettings, type SettingsFlags, settingsOption } from "./settings.ts";

export interface InputFlags extends DatabaseOptions, SettingsFlags {
  readonly manifest?: string;
}

/** The options of `InputFlags`. */
export function withDatabaseOptions(command: Command): Command {
  return command
    .option("-f, --manifest <file>", "YAML file with a PgEventSource")
    .addOption(settingsOption())
    .option("--database-url <url>", "postgres:// URL (environment: PG_EVENTS_DATABASE_URL)")
    .option("--secrets <directory>", "files <secret>/<key> for the Secrets that the manifest names");
}

/** @throws CommanderError when neither is given, and what reading them throws */
export async function inputsOf(
  flags: InputFlags,
  command: Command,
): Promise<{ source: PgEventSource; database: DatabaseSettings }> {
  checkSettingsFlags(flags, command);
  if (flags.settings !== undefined) return readClassicSettings(flags.settings, flags);
  if (flags.manifest === undefined)
    command.error("error: one of '--manifest <file>' and '--settings <module>' is needed");
  const source = await readManifest(flags.manifest);
  return { source, database: databaseOf(source, flags) };
}
