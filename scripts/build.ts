/**
 * Bundles the program into dist/: `node dist/cli.js` needs nothing but Node and the directory sql/ beside
 * dist/. Each command is a chunk of its own, so that a worker does not load the Kubernetes client.
 *
 *   [REVISION=<commit>] node scripts/build.ts [directory]
 */
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { build, type Metafile } from "esbuild";

const ROOT = join(import.meta.dirname, "..");
const directory = resolve(process.argv[2] ?? join(ROOT, "dist"));

rmSync(directory, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: ROOT,
  // Threads are started by the name of their file, so each of them is an entry.
  entryPoints: {
    cli: "src/cli.ts",
    "module-exports-thread": "src/runtime/module-exports-thread.ts",
    "module-thread": "src/callbacks/module-thread.ts",
  },
  outdir: directory,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node22",
  // Names stay, so that a stack trace from a cluster can be read.
  minifyWhitespace: true,
  minifySyntax: true,
  // The same code with the WebAssembly in it, instead of in a file beside it.
  alias: { "@platformatic/wasm-utils": "@platformatic/wasm-utils/bundled" },
  // pg looks for it and does without.
  external: ["pg-native", "pg-cloudflare"],
  define: { BUILD_REVISION: JSON.stringify(process.env.REVISION || "unknown") },
  // Packages in CommonJS require Node's modules at run time, which an ES module cannot.
  banner: { js: 'import{createRequire as r_}from"node:module";const require=r_(import.meta.url);' },
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});
writeFileSync(join(directory, "LICENSES.txt"), licenses(metafile));
console.log(`${Object.keys(metafile.outputs).length} files, ${kilobytes(metafile)} kB: ${directory}`);

/** What the bundled packages want to be said along with them. */
function licenses({ inputs }: Metafile): string {
  const packages = Object.keys(inputs).flatMap(
    (file) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? [],
  );
  const texts = [...new Set(packages)].sort().map((path) => {
    const { name, version, license } = JSON.parse(readFileSync(join(ROOT, path, "package.json"), "utf8"));
    const files = globSync("{LICENSE,LICENCE,NOTICE,license,notice}*", { cwd: join(ROOT, path) });
    const said = files.sort().map((file) => readFileSync(join(ROOT, path, file), "utf8").trim());
    return [`${name} ${version} (${license})`, ...said].join("\n\n");
  });
  return `${texts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

function kilobytes({ outputs }: Metafile): number {
  return Math.round(Object.values(outputs).reduce((sum, { bytes }) => sum + bytes, 0) / 1000);
}
