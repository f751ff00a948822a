/**
 * What a release has besides the image: the chart and plain manifests, both with the image's digest in them, the
 * CustomResourceDefinition, and an SBOM of the program.
 *
 *   node scripts/release-files.ts <directory> <sha256:…>
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { helmProgram } from "../test/support/cluster/helm.ts";
import { installFile } from "./generate/install.ts";
import { lockedPackages, packageName, shippedPackages } from "./generate/licenses.ts";

const ROOT = join(import.meta.dirname, "..");
const NO_DIGEST = '  digest: ""\n';

interface Sbom {
  components: { "bom-ref": string; name: string; version: string }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}

const [directory, digest] = process.argv.slice(2);
if (directory === undefined || !/^sha256:[0-9a-f]{64}$/.test(digest ?? "")) {
  console.error("Usage: node scripts/release-files.ts <directory> <digest of the image, sha256:…>");
  process.exit(2);
}
const out = resolve(directory);
mkdirSync(out, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), "pg-events-release-"));
try {
  const chart = join(scratch, "pg-events");
  cpSync(join(ROOT, "charts/pg-events"), chart, { recursive: true });
  setDigest(join(chart, "values.yaml"), String(digest));
  const helm = helmProgram() ?? "helm";
  execFileSync(helm, ["package", chart, "--destination", out], { stdio: ["ignore", "ignore", "inherit"] });
  writeFileSync(join(out, "install.yaml"), installFile(helm, chart));
} finally {
  rmSync(scratch, { recursive: true });
}
cpSync(join(ROOT, "crds/pgevents.dev_pgeventsources.yaml"), join(out, "pgevents.dev_pgeventsources.yaml"));
writeFileSync(join(out, "pg-events.cdx.json"), `${JSON.stringify(sbom(), null, 2)}\n`);

/** @throws Error when the file has no such value, or several */
function setDigest(values: string, value: string): void {
  const parts = readFileSync(values, "utf8").split(NO_DIGEST);
  if (parts.length !== 2) throw new Error(`${values} has ${parts.length - 1} empty digests, not one`);
  writeFileSync(values, parts.join(`  digest: "${value}"\n`));
}

/** CycloneDX, of what is shipped: without the tools of developers. */
function sbom(): Sbom {
  const args = ["sbom", "--sbom-format", "cyclonedx", "--sbom-type", "application"];
  const text = execFileSync("npm", args, { cwd: ROOT, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  const all = JSON.parse(text) as Sbom;
  const packages = lockedPackages();
  const shipped = new Set(
    [...shippedPackages(packages)].map((path) => `${packageName(path)}@${packages[path]?.version}`),
  );
  const components = all.components.filter(({ name, version }) => shipped.has(`${name}@${version}`));
  const known = new Set(components.map((component) => component["bom-ref"]));
  const dependencies = all.dependencies
    .filter(({ ref }) => known.has(ref) || !all.components.some((component) => component["bom-ref"] === ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((one) => known.has(one)) }));
  return { ...all, components, dependencies };
}
