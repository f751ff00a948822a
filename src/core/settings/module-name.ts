/** Where a module that is named as Python names one may lie. */

const CODE = ["mjs", "js", "mts", "ts", "cjs", "cts"];
const YAML = ["yaml", "yml"];

/** What a file's name says about how to read it. */
export function moduleKind(file: string): "code" | "yaml" | null {
  const extension = /\.([a-z]+)$/.exec(file)?.[1] ?? "";
  if (CODE.includes(extension)) return "code";
  return YAML.includes(extension) ? "yaml" : null;
}

/**
 * The files that a name may mean, relative to a directory, the first that exists counts. A name is a path
 * (`./conf/settings.mjs`, `conf/settings`) or a module (`conf.settings`); `.py` at its end is passed over.
 * None: it can mean no file at all.
 */
export function moduleCandidates(name: string, allowed: "code" | "code or yaml"): string[] {
  const kind = moduleKind(name);
  if (kind !== null) return kind === "code" || allowed !== "code" ? [name] : [];
  const bare = name.replace(/\.py$/, "");
  const isPath = bare.includes("/") || bare.includes("\\");
  if (!isPath && !/^[^.\s]+(\.[^.\s]+)*$/.test(bare)) return [];
  const base = isPath ? bare : bare.replaceAll(".", "/");
  const extensions = allowed === "code" ? CODE : [...CODE, ...YAML];
  return [base, `${base}/index`].flatMap((path) => extensions.map((extension) => `${path}.${extension}`));
}

/** The candidates in few words: `conf/settings.{mjs,…} and conf/settings/index.{mjs,…}`. */
export function describeCandidates(candidates: readonly string[]): string {
  if (candidates.length < 2) return candidates.join("");
  const byStem = Map.groupBy(candidates, (path) => path.replace(/\.[a-z]+$/, ""));
  return [...byStem]
    .map(([stem, paths]) => `${stem}.{${paths.map((path) => path.slice(stem.length + 1)).join(",")}}`)
    .join(" or ");
}
