/** What commands share that look at, or act on, a database with capture. */
import type { Command } from "commander";
import type { Client } from "pg";
import type { CallbackSpec } from "../core/api/callback.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { type CaptureNames, captureNames } from "../core/capture/names.ts";
import { PgEventsError } from "../core/errors.ts";
import type { EventOrigin } from "../core/event.ts";
import { originOf } from "../core/event-origin.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { connectDatabase, databaseError } from "../postgres/connect.ts";
import { type Installation, readInstallation } from "../postgres/installation.ts";
import { type InputFlags, inputsOf } from "./inputs.ts";

export interface CapturedDatabase {
  readonly client: Client;
  readonly source: PgEventSource;
  readonly settings: DatabaseSettings;
  readonly names: CaptureNames;
  readonly installation: Installation;
  readonly origin: EventOrigin;
}

/** Runs `work` with a connection. @throws PgEventsError PGE_NOT_BUILT, and what connecting and reading throw */
export async function withCapturedDatabase(
  flags: InputFlags,
  command: Command,
  work: (database: CapturedDatabase) => Promise<void>,
): Promise<void> {
  const { source, database: settings } = await inputsOf(flags, command);
  const names = captureNames(source.spec.capture.schemaName);
  const client = await connectDatabase(settings, "status");
  try {
    const installation = await readInstallation(client, names);
    if (installation === null)
      throw new PgEventsError("PGE_NOT_BUILT", `The database has no capture in schema ${names.schema}.`, {
        remedy: "Run `pg-events build` with the same manifest.",
      });
    const origin = originOf(source, installation.id);
    await work({ client, source, settings, names, installation, origin });
  } catch (error) {
    throw error instanceof PgEventsError || !isDriverError(error) ? error : databaseError(error, settings);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** @throws PgEventsError PGE_FLAG_INVALID when the source has no such callback */
export function callbackNamed(source: PgEventSource, name: string): CallbackSpec {
  const found = source.spec.callbacks.find((callback) => callback.name === name);
  if (found !== undefined) return found;
  const names = source.spec.callbacks.map((callback) => callback.name).join(", ");
  throw new PgEventsError("PGE_FLAG_INVALID", `There is no callback ${JSON.stringify(name)}.`, {
    remedy: `The manifest has: ${names}.`,
  });
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Lines of columns, as wide as they have to be; what a terminal would take for commands is escaped. */
export function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is escaped
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (character) => JSON.stringify(character).slice(1, -1));
}

function isDriverError(error: unknown): boolean {
  return typeof (error as { code?: unknown }).code === "string";
}
