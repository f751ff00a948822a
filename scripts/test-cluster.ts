/**
 * The tests of an installation: a Kubernetes node with containers, in namespaces of its own (mounts, network,
 * processes), in which all of it ends with this command.
 *
 *   node scripts/test-cluster.ts [arguments of scripts/test.ts, such as --only-matching G1]
 */
import { join } from "node:path";
import { runInNode } from "../test/support/cluster/node/enter.ts";
import { makeImages } from "../test/support/cluster/node/images.ts";
import { missingForNode } from "../test/support/cluster/node/requirements.ts";

const missing = missingForNode();
if (missing.length > 0) {
  console.error(["The tests of an installation are skipped. They need:", ...missing].join("\n- "));
  console.log("0 passed, 0 failed, 1 skipped");
  process.exit(1);
}
const images = await makeImages();
const tests = [process.execPath, join(import.meta.dirname, "test.ts"), "cluster", ...process.argv.slice(2)];
process.exitCode = await runInNode(tests, images);
