/** Finds the files of classic settings, and reads what they hold. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { isAbsolute, relative, resolve } from "node:path";
import { parseDocument } from "yaml";
import { PgEventsError } from "../core/errors.ts";
import { type ModuleValue, type ModuleValues, withoutCredentials } from "../core/settings/classic.ts";
import { describeCandidates, moduleCandidates, moduleKind } from "../core/settings/module-name.ts";
import { moduleExports } from "../runtime/module-exports.ts";

const GUIDE = "docs/migrating-from-pg-events.md shows how settings are written";

/**
 * The file that `--settings` means, as an absolute path.
 * @throws PgEventsError PGE_SETTINGS_UNREADABLE that says where it was looked for
 */
export function settingsFile(name: string): string {
  const candidates = moduleCandidates(name, "code or yaml");
  const file = firstFile(candidates, [process.cwd()]);
  if (file !== null) return file;
  const other = firstFile([name, `${name.replaceAll(".", "/")}.py`], [process.cwd()]);
  if (other !== null)
    throw unreadable(
      `${shown(other)} is not a JavaScript, TypeScript or YAML file.`,
      `Write the settings in one of them; ${GUIDE}.`,
    );
  throw unreadable(
    `There is no settings module ${JSON.stringify(name)}: ${looked(candidates, [process.cwd()])}.`,
    `Give --settings a file, or the name of a module below the current directory; ${GUIDE}.`,
  );
}

/** The file of a callback's module: below the current directory, or else below that of the settings. Null: none. */
export function callbackFile(module: string, directories: readonly string[]): string | null {
  return firstFile(moduleCandidates(module, "code"), directories);
}

/** What was looked for, for a message. */
export function lookedForCallback(module: string, directories: readonly string[]): string {
  return looked(moduleCandidates(module, "code"), directories);
}

/** @throws PgEventsError PGE_SETTINGS_UNREADABLE with the first line of what is wrong in the file */
export async function readModule(file: string): Promise<ModuleValues> {
  if (moduleKind(file) === "yaml") return readYaml(file);
  const exports = await moduleExports(file);
  if (exports.kind === "exports") return exports.values;
  throw unreadable(`${shown(file)} ${exports.problem}.`, `Try it alone: node ${shown(file)}`);
}

/** A path as the user would write it. */
export function shown(file: string): string {
  const fromHere = relative(process.cwd(), file);
  return fromHere.startsWith("..") || isAbsolute(fromHere) ? file : fromHere;
}

function readYaml(file: string): ModuleValues {
  const document = parseDocument(readText(file));
  const problem = document.errors[0]?.message.split("\n", 1)[0];
  if (problem !== undefined)
    throw unreadable(`${shown(file)} is not YAML: ${withoutCredentials(problem.replace(/:$/, ""))}.`);
  const content = document.toJS() as unknown;
  if (typeof content !== "object" || content === null || Array.isArray(content))
    throw unreadable(`${shown(file)} holds no settings.`, "Write them as NAME: value, one a line.");
  return Object.fromEntries(Object.entries(content).map(([name, value]) => [name, yamlValue(value)]));
}

function yamlValue(value: unknown): ModuleValue {
  if (typeof value === "string") return { kind: "text", text: value };
  const type = value === null ? "null" : Array.isArray(value) ? "list" : typeof value;
  return { kind: "other", type: type === "object" ? "mapping" : type };
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw unreadable(`${shown(file)} cannot be read: ${(error as { code?: string }).code}.`);
  }
}

function firstFile(candidates: readonly string[], directories: readonly string[]): string | null {
  const paths = directories.flatMap((directory) => candidates.map((path) => resolve(directory, path)));
  return paths.find((path) => existsSync(path) && statSync(path).isFile()) ?? null;
}

function looked(candidates: readonly string[], directories: readonly string[]): string {
  if (candidates.length === 0) return "the name is neither a file's nor a module's";
  if (isAbsolute(candidates[0] ?? "")) return `looked for ${describeCandidates(candidates)}`;
  return `looked for ${describeCandidates(candidates)} in ${[...new Set(directories)].join(" and ")}`;
}

function unreadable(message: string, remedy?: string): PgEventsError {
  return new PgEventsError("PGE_SETTINGS_UNREADABLE", message, remedy === undefined ? {} : { remedy });
}
