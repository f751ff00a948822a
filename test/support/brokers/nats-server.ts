/** A real nats-server with JetStream, built once from its Go module (20 to 60 seconds, kept in ~/.cache/pg-events). */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../cluster/free-port.ts";
import { runTool } from "../cluster/tool.ts";
import type { TestEnd } from "../postgres.ts";
import { cachedPrograms, missing } from "../program-cache.ts";
import { type BrokerProcess, startBroker } from "./broker-process.ts";

const VERSION = "v2.15.2";
const INSTALL = `Install Go 1.25 or later (https://go.dev/doc/install): the first run builds nats-server ${VERSION}.`;

export interface NatsServer extends BrokerProcess {
  readonly port: number;
  readonly url: string;
}

/** Why the tests that need it are skipped; false when they are not. @throws Error with CI set, when it cannot be had */
export function natsMissing(): Promise<string | false> {
  return missing(natsProgram(), `No nats-server. ${INSTALL}`);
}

/**
 * Stopped after the test.
 * @param settings lines of its configuration; port, directory of JetStream and a payload limit of 8 MB are given
 * @param host where it listens
 */
export async function natsServer(t: TestEnd, settings = "", host = "127.0.0.1"): Promise<NatsServer> {
  const program = await natsProgram();
  if (program === null) throw new Error(INSTALL);
  const directory = mkdtempSync(join(tmpdir(), "pg-events-nats-"));
  const port = await freePort();
  const config = join(directory, "nats.conf");
  const lines = [
    `listen: ${host}:${port}`,
    "max_payload: 8MB",
    `jetstream { store_dir: ${JSON.stringify(join(directory, "data"))}, max_mem: 256MB, max_file: 1GB }`,
    settings,
  ];
  writeFileSync(config, lines.join("\n"));
  const broker = await startBroker({ file: program, args: ["-c", config], directory, host, port });
  t.after(() => broker.stop());
  return { ...broker, port, url: `nats://${host}:${port}` };
}

/** Null when it is not there and there is no Go. @throws Error with the compiler's output */
async function natsProgram(): Promise<string | null> {
  try {
    const directory = await cachedPrograms(`nats-server-${VERSION}`, async (unfinished) => {
      const env = { GOBIN: unfinished, CGO_ENABLED: "0" };
      await runTool("go", ["install", `github.com/nats-io/nats-server/v2@${VERSION}`], { env });
    });
    return join(directory, "nats-server");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
