/** Reads a PgEventSource from a YAML file, and finds the database for it. */
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { prepareExpressions } from "../core/api/expressions.ts";
import { parsePgEventSource } from "../core/api/parse.ts";
import { KIND, type PgEventSource } from "../core/api/source.ts";
import { PgEventsError } from "../core/errors.ts";
import { hiddenKeys } from "../core/reconcile/secret-references.ts";
import { type DatabaseSettings, databaseFromSecret, databaseFromUrl } from "../core/settings/database.ts";
import { hideSecret } from "../runtime/log.ts";
import { secretFiles } from "../runtime/secret-files.ts";

/**
 * The one PgEventSource of a file; other kinds beside it (a Secret, say) are passed over.
 * @throws PgEventsError PGE_MANIFEST_UNREADABLE, PGE_MANIFEST_INVALID
 */
export async function readManifest(path: string): Promise<PgEventSource> {
  const documents = parseAllDocuments(readText(path));
  for (const document of "empty" in documents ? [] : documents) {
    const problem = document.errors[0];
    if (problem !== undefined) throw unreadable(path, problem.message.split("\n")[0] ?? "not YAML");
  }
  const values = "empty" in documents ? [] : documents.map((document) => document.toJS() as unknown);
  const sources = values.filter((value) => (value as { kind?: unknown } | null)?.kind === KIND);
  if (sources.length !== 1)
    throw unreadable(path, `it must hold exactly one ${KIND}, and holds ${sources.length}`);
  const source = parsePgEventSource(sources[0], path);
  await prepareExpressions(source, path);
  return source;
}

export interface DatabaseOptions {
  readonly databaseUrl?: string | undefined;
  /** Directory with `<secret>/<key>` files. */
  readonly secrets?: string | undefined;
}

/** The database of a local run: --database-url, PG_EVENTS_DATABASE_URL, or spec.database with --secrets. */
export function databaseOf(source: PgEventSource, options: DatabaseOptions): DatabaseSettings {
  const url = options.databaseUrl ?? process.env.PG_EVENTS_DATABASE_URL;
  if (url !== undefined && url !== "") {
    const where = options.databaseUrl === undefined ? "PG_EVENTS_DATABASE_URL" : "--database-url";
    const settings = databaseFromUrl(url, where);
    if (settings.password !== undefined) hideSecret(settings.password);
    hideSecret(url);
    return settings;
  }
  if (source.spec.database !== undefined && options.secrets !== undefined) {
    const read = secretFiles(options.secrets, hiddenKeys(source.spec));
    const settings = databaseFromSecret(source.spec.database, read);
    if (settings.password !== undefined) hideSecret(settings.password); // it may be a part of a URI
    return settings;
  }
  throw new PgEventsError("PGE_DATABASE_MISSING", "No database is given.", {
    remedy:
      "Set --database-url or PG_EVENTS_DATABASE_URL, or --secrets with a directory that holds the files <secret>/<key> of spec.database.",
  });
}

/** Who owns what a local manifest builds. */
export function ownerOf(source: PgEventSource): string {
  return (
    process.env.PG_EVENTS_OWNER ??
    `manifest:${source.metadata.namespace ?? "default"}/${source.metadata.name}`
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw unreadable(
      path,
      (error as { code?: string }).code === "ENOENT" ? "there is no such file" : "it cannot be read",
    );
  }
}

function unreadable(path: string, problem: string): PgEventsError {
  return new PgEventsError("PGE_MANIFEST_UNREADABLE", `${path}: ${problem}.`);
}
