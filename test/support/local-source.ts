/** A PgEventSource for a test database, as a manifest file that the real commands are run with. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import type { TestEnd } from "./postgres.ts";
import { type CliProcess, runCli, startCli } from "./processes.ts";

export interface LocalSource {
  readonly manifest: string;
  /** Runs `pg-events build` with these flags besides; fails the test when it fails. */
  build(...flags: string[]): Promise<string>;
  /** Starts `pg-events worker` and waits until it relays every callback. */
  startWorker(options?: { waitForRelay?: boolean; flags?: readonly string[] }): Promise<CliProcess>;
  /** Writes the manifest anew with another spec. */
  change(spec: Record<string, unknown>): void;
}

export function localSource(
  t: TestEnd,
  database: { readonly url: string },
  spec: Record<string, unknown>,
): LocalSource {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-test-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const manifest = join(directory, "source.yaml");
  const env = { PG_EVENTS_DATABASE_URL: database.url };
  const change = (changed: Record<string, unknown>) => {
    const source = {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "test" },
      spec: changed,
    };
    writeFileSync(manifest, stringify(source));
  };
  change(spec);
  return {
    manifest,
    change,
    async build(...flags) {
      const { code, stdout, stderr } = await runCli(t, ["build", "--manifest", manifest, ...flags], { env });
      if (code !== 0) throw new Error(`build ended with ${code}: ${stdout}${stderr}`);
      return stdout;
    },
    async startWorker({ waitForRelay = true, flags = [] } = {}) {
      const addresses = ["--metrics-address", "127.0.0.1:0", "--probes-address", "127.0.0.1:0"];
      const worker = startCli(t, ["worker", "--manifest", manifest, ...addresses, ...flags], { env });
      if (waitForRelay) await worker.waitForLine(/"relaying callback"/);
      return worker;
    },
  };
}

/** A callback to a receiver, with attempts that follow each other fast. */
export function callbackTo(url: string, changes: Record<string, unknown> = {}): Record<string, unknown> {
  const {
    name = "orders",
    http = {},
    ...rest
  } = changes as { name?: string; http?: Record<string, unknown> };
  return { name, http: { uri: `${url}/${name}`, ...http }, ...rest };
}
