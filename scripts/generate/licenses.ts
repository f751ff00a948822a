/** docs/reference/licenses.md: the licences of what pg-events is made of, from the lockfile. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GENERATED_MARKDOWN, table } from "./markdown.ts";

/** Permissive: whoever ships our program has to name them, and nothing else. */
const ALLOWED = ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "PSF-2.0", "Unlicense"];
const FOLDER = "node_modules/";

interface LockedPackage {
  readonly integrity?: string;
  readonly version?: string;
  readonly license?: string;

  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/** Of package-lock.json: by directory, the project itself under "". */
type LockedPackages = Readonly<Record<string, LockedPackage>>;

export function lockedPackages(): LockedPackages {
  const file = join(import.meta.dirname, "../../package-lock.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { packages: LockedPackages }).packages;
}

/** @throws Error when a package, a tool of developers too, has a licence that is not allowed */
export function licenseReference(packages: LockedPackages = lockedPackages()): string {
  const refused = Object.entries(packages).filter(
    ([path, { license }]) => path !== "" && !isAllowed(license),
  );
  if (refused.length > 0) {
    const list = refused
      .map(([path, { license }]) => `${packageName(path)} (${license ?? "none"})`)
      .join(", ");
    throw new Error(`Licences that are not in the list of scripts/generate/licenses.ts: ${list}`);
  }
  const rows = [...shippedPackages(packages)].map((path) => {
    const { version = "", license = "" } = packages[path] as LockedPackage;
    return [packageName(path), version, license];
  });
  const unique = [...new Map(rows.map((row) => [row.join(" "), row])).values()];
  unique.sort(([a = ""], [b = ""]) => (a < b ? -1 : 1));
  const introduction = `# Licences

pg-events is under Apache-2.0. Its program holds code of these packages, and of those that they ask for; which of them are in
the bundle, with the texts of their licences, is in \`dist/LICENSES.txt\` of the image.`;
  return `${[GENERATED_MARKDOWN, introduction, table(["Package", "Version", "Licence"], unique)].join("\n\n")}\n`;
}

/** Directories of what the program depends on, directly or not; brokers' clients are its peers. */
export function shippedPackages(packages: LockedPackages): Set<string> {
  const found = new Set<string>();
  const visit = (from: string, { dependencies = {}, peerDependencies = {} }: LockedPackage): void => {
    const names = Object.keys(from === "" ? { ...dependencies, ...peerDependencies } : dependencies);
    for (const path of names.flatMap((name) => installedAt(packages, from, name) ?? [])) {
      if (found.has(path)) continue;
      found.add(path);
      visit(path, packages[path] as LockedPackage);
    }
  };
  visit("", packages[""] ?? {});
  return found;
}

/** Where Node.js finds a package that one in the directory `from` imports. */
function installedAt(packages: LockedPackages, from: string, name: string): string | undefined {
  const path = `${from === "" ? "" : `${from}/`}${FOLDER}${name}`;
  if (packages[path] !== undefined) return path;
  return from === ""
    ? undefined
    : installedAt(packages, from.slice(0, Math.max(0, from.lastIndexOf(FOLDER) - 1)), name);
}

function isAllowed(license: string | undefined): boolean {
  return (license ?? "").split(" OR ").some((one) => ALLOWED.includes(one.replaceAll(/[()]/g, "")));
}

export const packageName = (path: string) => path.slice(path.lastIndexOf(FOLDER) + FOLDER.length);
