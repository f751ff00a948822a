/** Reads sql/ of the package, from the sources as well as from the bundle. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SqlSources } from "../core/capture/ddl.ts";

let loaded: SqlSources | null = null;

/** Versioned files are `NNNNNN_name.sql`; `functions_*.sql` are replaced whenever they differ. */
export function sqlSources(): SqlSources {
  loaded ??= load(sqlDirectory());
  return loaded;
}

/** The tables and sequences that each versioned file makes, those left out that a later one drops. */
export function sqlObjects(): ReadonlyMap<number, readonly string[]> {
  const { migrations } = sqlSources();
  const named = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, name = ""]) => name);
  const dropped = new Set(
    [...migrations.values()].flatMap((text) =>
      named(text, /^drop (?:table|sequence) (?:if exists )?@schema@\.(\w+)/gm),
    ),
  );
  return new Map(
    [...migrations].map(([version, text]) => [
      version,
      named(text, /^create (?:unlogged )?(?:table|sequence) @schema@\.(\w+)/gm).filter(
        (name) => !dropped.has(name),
      ),
    ]),
  );
}

function load(directory: string): SqlSources {
  const names = readdirSync(directory).sort();
  const read = (name: string) => readFileSync(join(directory, name), "utf8");
  const versioned = names.flatMap((name) => {
    const version = /^(\d{6})_.+\.sql$/.exec(name)?.[1];
    return version === undefined ? [] : [[Number(version), read(name)] as const];
  });
  const functions = names
    .filter((name) => /^functions_.+\.sql$/.test(name))
    .map(read)
    .join("\n");
  return { migrations: new Map(versioned), functions };
}

function sqlDirectory(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); at !== dirname(at); at = dirname(at)) {
    const directory = join(at, "sql");
    if (existsSync(join(directory, "000001_outbox.sql"))) return directory;
  }
  throw new Error("the package has no sql directory");
}
