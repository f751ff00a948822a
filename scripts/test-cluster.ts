/**
 * The tests of an installation: a Kubernetes node with containers, in namespaces of its own (mounts, network,
 * processes), in which all of it ends with this command.
 *
 *   node scripts/test-cluster.ts [files of test/cluster] [--only-matching …]
 */
import { join } from "node:path";
import { kafkaMissing } from "../test/support/brokers/kafka-server.ts";
import { natsMissing } from "../test/support/brokers/nats-server.ts";
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
// Inside of the node's namespaces there is no network to bring them.
for (const reason of [await natsMissing(), await kafkaMissing()]) if (reason) console.error(reason);
const args = process.argv.slice(2);
const which = args.some((arg) => arg.endsWith(".test.ts")) ? [] : ["cluster"];
const tests = [process.execPath, join(import.meta.dirname, "test.ts"), ...which, ...args];
process.exitCode = await runInNode(tests, images);
