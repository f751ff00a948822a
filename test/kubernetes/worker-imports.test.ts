import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { startProcess } from "../support/processes.ts";

const CLI = join(import.meta.dirname, "../../src/cli.ts");
/** Writes a line for each module of the Kubernetes client that is loaded. */
const WITNESS = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from "node:module";
  registerHooks({ resolve(specifier, context, next) {
    const found = next(specifier, context);
    if (/node_modules.@kubernetes.client-node|src.kubernetes/.test(found.url)) console.error("loaded " + found.url);
    return found;
  } });`)}`;

async function loads(t: TestContext, command: string): Promise<boolean> {
  const cli = startProcess(t, process.execPath, ["--import", WITNESS, CLI, command, "--help"]);
  assert.equal((await cli.exited).code, 0);
  return cli.stderr.includes("loaded ");
}

test("a worker does not load the Kubernetes client, which costs 80 MiB; the operator does", async (t) => {
  for (const command of ["worker", "build", "dev"]) assert.equal(await loads(t, command), false, command);
  assert.equal(await loads(t, "operator"), true);
});
