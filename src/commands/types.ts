import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Command, Option } from "commander";
import type { PgEventSource } from "../core/api/source.ts";
import { findingText, isFailure } from "../core/capture/findings.ts";
import { PgEventsError } from "../core/errors.ts";
import type { EventTypes } from "../core/types/events.ts";
import { jsonSchemaDocument, jsonSchemas } from "../core/types/json-schema.ts";
import { typescriptText } from "../core/types/typescript.ts";
import { TYPESCRIPT_NAMES } from "../core/types/typescript-prelude.ts";
import { readEventTypes } from "../postgres/event-types.ts";
import { type InputFlags, inputsOf, withDatabaseOptions } from "./inputs.ts";

const FORMATS = ["typescript", "json-schema"] as const;

interface TypesFlags extends InputFlags {
  readonly format: (typeof FORMATS)[number];
  readonly output?: string;
}

export function typesCommand(): Command {
  return withDatabaseOptions(new Command("types"))
    .description(
      "Print TypeScript types or JSON Schema of the events of each captured table; changes nothing.",
    )
    .addOption(new Option("--format <format>", "what to print").choices(FORMATS).default("typescript"))
    .option(
      "-o, --output <path>",
      "write a file (its name ends with .ts or .json) or into a directory (json-schema: a file a table)",
    )
    .action(run);
}

async function run(flags: TypesFlags, command: Command): Promise<void> {
  const { source, database } = await inputsOf(flags, command);
  const { plan, types } = await readEventTypes(database, source.spec.capture, TYPESCRIPT_NAMES);
  for (const one of plan.findings)
    process.stderr.write(isFailure(one) ? `${findingText(one)}\n` : `note: ${one.message}\n`);
  if (flags.output === undefined) process.stdout.write(wholeText(flags, types, source));
  else {
    writeFiles(filesOf(flags.output, flags, types, source));
    const { length } = types.tables;
    process.stdout.write(
      `Wrote the types of ${length} ${length === 1 ? "table" : "tables"} to ${flags.output}.\n`,
    );
  }
  if (plan.findings.some(isFailure)) process.exitCode = 1;
}

function wholeText({ format }: TypesFlags, types: EventTypes, source: PgEventSource): string {
  return format === "typescript"
    ? typescriptText(types)
    : jsonText(jsonSchemaDocument(types, schemaSource(source)));
}

/** Texts by path. */
function filesOf(
  output: string,
  flags: TypesFlags,
  types: EventTypes,
  source: PgEventSource,
): Map<string, string> {
  const isFile = output.endsWith(flags.format === "typescript" ? ".ts" : ".json");
  if (isFile) return new Map([[output, wholeText(flags, types, source)]]);
  if (flags.format === "typescript")
    return new Map([[join(output, "pg-events.d.ts"), wholeText(flags, types, source)]]);
  const schemas = [...jsonSchemas(types, schemaSource(source))];
  return new Map(schemas.map(([name, schema]) => [join(output, `${name}.schema.json`), jsonText(schema)]));
}

function writeFiles(files: ReadonlyMap<string, string>): void {
  for (const [path, text] of files) {
    try {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    } catch (error) {
      const { code } = error as { code?: string };
      throw new PgEventsError("PGE_FLAG_INVALID", `--output: ${path} cannot be written: ${code}.`);
    }
  }
}

function schemaSource({ metadata }: PgEventSource): { namespace: string; name: string } {
  return { namespace: metadata.namespace ?? "default", name: metadata.name };
}

function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
