/** helm-unittest, which runs charts/pg-events/tests; built once from its Go module (a minute, kept in ~/.cache/pg-events). */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CHART } from "./chart.ts";
import { runTool } from "./cluster/tool.ts";
import { cachedPrograms, missing } from "./program-cache.ts";

const MODULE = join(import.meta.dirname, "helm-unittest");
const PACKAGE = "github.com/helm-unittest/helm-unittest/cmd/helm-unittest";

/** Why the tests that need it are skipped; false when they are not. @throws Error with CI set, when it cannot be had */
export const helmUnittestMissing = (): Promise<string | false> =>
  missing(program(), "No helm-unittest: install Go 1.26 or later (https://go.dev/doc/install).");

/** Runs the chart's own tests. @returns its report @throws Error with the report when one fails */
export async function testChart(): Promise<string> {
  return runTool((await program()) ?? "helm-unittest", ["--strict", CHART], {});
}

/** Null when it is not there and there is no Go. @throws Error with the compiler's output */
async function program(): Promise<string | null> {
  const hash = createHash("sha256").update(readFileSync(join(MODULE, "go.sum")));
  try {
    const name = `helm-unittest-${hash.digest("hex").slice(0, 16)}`;
    const directory = await cachedPrograms(name, async (unfinished) => {
      const output = join(unfinished, "helm-unittest");
      const args = ["build", "-C", MODULE, "-trimpath", "-ldflags", "-s -w", "-o", output, PACKAGE];
      await runTool("go", args, { env: { CGO_ENABLED: "0" } });
    });
    return join(directory, "helm-unittest");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
