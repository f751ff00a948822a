/**
 * node test/support/cluster/run.ts [command…]: starts a control plane and runs a command with it
 * (PG_EVENTS_TEST_CONTROL_PLANE and KUBECONFIG), so that several test files share one. Without a command
 * it prints the directory and waits for SIGINT or SIGTERM.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { startControlPlane } from "../control-plane.ts";

const plane = await startControlPlane();
const [command, ...args] = process.argv.slice(2);
if (command === undefined) {
  process.stdout.write(`${plane.directory}\n`);
  const waiting = setInterval(() => undefined, 60_000);
  await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  clearInterval(waiting);
} else {
  const env = { ...process.env, PG_EVENTS_TEST_CONTROL_PLANE: plane.directory, KUBECONFIG: plane.kubeconfig };
  const [code] = await once(spawn(command, args, { stdio: "inherit", env }), "close").catch(() => [127]);
  process.exitCode = code ?? 1;
}
await plane.stop();
