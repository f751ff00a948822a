/** The linter of GitHub workflows, built once from its Go module (20 seconds, kept in ~/.cache/pg-events). */
import { join } from "node:path";
import { runTool } from "./cluster/tool.ts";
import { cachedPrograms, missing } from "./program-cache.ts";

const VERSION = "v1.7.12";

/** Why the tests that need it are skipped; false when they are not. @throws Error with CI set, when it cannot be had */
export const actionlintMissing = (): Promise<string | false> =>
  missing(program(), "No actionlint: install Go (https://go.dev/doc/install).");

/** @throws Error with what is wrong with the workflows */
export async function lintWorkflows(files: readonly string[]): Promise<void> {
  // Without the linters of shell and Python, which may be there or not.
  await runTool((await program()) ?? "actionlint", ["-shellcheck=", "-pyflakes=", ...files], {});
}

/** Null when it is not there and there is no Go. @throws Error with the compiler's output */
async function program(): Promise<string | null> {
  try {
    const directory = await cachedPrograms(`actionlint-${VERSION}`, async (unfinished) => {
      const env = { GOBIN: unfinished, CGO_ENABLED: "0" };
      await runTool("go", ["install", `github.com/rhysd/actionlint/cmd/actionlint@${VERSION}`], { env });
    });
    return join(directory, "actionlint");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
