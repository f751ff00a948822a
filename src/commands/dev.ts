/** All of pg-events on one machine: a manifest in, live events out. */
import { once } from "node:events";
import { watch } from "node:fs";
import { Command } from "commander";
import { parsePgEventSource } from "../core/api/parse.ts";
import { API_VERSION, KIND, type PgEventSource } from "../core/api/source.ts";
import { findingText } from "../core/capture/findings.ts";
import { describeError, PgEventsError } from "../core/errors.ts";
import { type DatabaseSettings, databaseFromUrl } from "../core/settings/database.ts";
import { buildCapture } from "../postgres/build.ts";
import { connectDatabase } from "../postgres/connect.ts";
import { removeCapture } from "../postgres/removal.ts";
import { startEmbeddedPostgres } from "../runtime/embedded-postgres.ts";
import { createLogger } from "../runtime/log.ts";
import { createRegistry } from "../runtime/observability.ts";
import { shutdownSignal } from "../runtime/shutdown.ts";
import { REVISION, VERSION } from "../version.ts";
import { runSampleApp, SAMPLE_SCHEMA } from "./dev/sample-app.ts";
import { startTerminalReceiver } from "./dev/terminal-receiver.ts";
import { ownerOf, readManifest } from "./manifest.ts";
import { type ModuleOptions, moduleFiles } from "./module-files.ts";
import { runWorkerWith } from "./run-worker.ts";

const DRAIN_MS = 5000;

interface DevFlags extends ModuleOptions {
  readonly databaseUrl?: string;
  readonly keep?: true;
}

export function devCommand(): Command {
  return new Command("dev")
    .description(
      "Run build and relay on this machine and show the delivered events; Ctrl-C leaves nothing behind.",
    )
    .option(
      "-f, --manifest <file>",
      "YAML file with a PgEventSource; a change of the file is applied (default: a sample)",
    )
    .option(
      "--database-url <url>",
      "postgres:// URL (environment: PG_EVENTS_DATABASE_URL; default: an embedded PostgreSQL with a sample application)",
    )
    .option("--modules <directory>", "files <ConfigMap>/<key> for the modules that the manifest names")
    .option("--keep", "leave the capture in the database at the end")
    .action(run);
}

async function run(flags: DevFlags): Promise<void> {
  const stop = shutdownSignal();
  if (flags.manifest !== undefined) await readManifest(flags.manifest); // a wrong manifest is told before anything starts
  const url = flags.databaseUrl ?? process.env.PG_EVENTS_DATABASE_URL;
  const given =
    url === undefined || url === ""
      ? null
      : databaseFromUrl(url, flags.databaseUrl === undefined ? "PG_EVENTS_DATABASE_URL" : "--database-url");
  const receiver = await startTerminalReceiver(print);
  try {
    if (given === null)
      await withEmbeddedDatabase((settings) => session(flags, settings, receiver.url, stop), stop);
    else await session(flags, given, receiver.url, stop);
  } finally {
    await receiver.close();
  }
}

async function withEmbeddedDatabase(
  work: (settings: DatabaseSettings) => Promise<void>,
  stop: AbortSignal,
): Promise<void> {
  print("Starting an embedded PostgreSQL …");
  const server = await startEmbeddedPostgres();
  try {
    const settings = databaseFromUrl(server.url, "the embedded database");
    print(`PostgreSQL is ready: ${server.url}`);
    const client = await connectDatabase(settings, "status");
    await client.query(SAMPLE_SCHEMA);
    const ended = new AbortController();
    const app = runSampleApp(client, AbortSignal.any([stop, ended.signal]));
    app.catch((error: unknown) => print(`The sample application stopped: ${describeError(error)}`));
    await work(settings).finally(() => ended.abort());
    await app.catch(() => undefined);
    await client.end();
  } finally {
    await server.stop();
  }
}

/** Builds and relays until told to stop; begins anew when the manifest file changes. */
async function session(
  flags: DevFlags,
  settings: DatabaseSettings,
  receiverUrl: string,
  stop: AbortSignal,
): Promise<void> {
  let built: { schemaName: string; owner: string } | null = null;
  while (!stop.aborted) {
    const changed = manifestChange(flags.manifest);
    const round = AbortSignal.any([stop, changed.signal]);
    try {
      const source = toReceiver(
        flags.manifest === undefined ? sample() : await readManifest(flags.manifest),
        receiverUrl,
      );
      const { capture, callbacks } = source.spec;
      const moduleFunctions = moduleFiles(source, flags);
      const owner = ownerOf(source);
      const report = await buildCapture(
        settings,
        { capture, callbacks: callbacks.map(({ name }) => name), owner, version: VERSION },
        { mode: "apply" },
      );
      if (report.actions.some(({ kind }) => kind === "InstallSchema"))
        built = { schemaName: capture.schemaName, owner };
      for (const failure of report.failures) print(findingText(failure));
      print(`Built ${source.metadata.name}: ${report.tables} tables captured. Events follow; Ctrl-C ends.`);
      await runWorkerWith(
        {
          source,
          settings: () => settings,
          readSecret: () => undefined,
          moduleFunctions,
          owner,
          allowLoopback: true,
          registry: createRegistry(VERSION, REVISION),
          log: createLogger("Warn", { component: "worker" }),
          drainTimeoutMs: DRAIN_MS,
        },
        round,
      );
    } catch (error) {
      if (flags.manifest === undefined || !(error instanceof PgEventsError)) throw error;
      print(describeError(error));
      if (error.code.startsWith("PGE_MANIFEST")) print("Waiting for a change of the file …");
      else if (!stop.aborted) throw error;
      if (!round.aborted) await once(round, "abort");
    } finally {
      changed.close();
    }
  }
  if (built !== null && flags.keep !== true) {
    await removeCapture(settings, built);
    print("Capture removed from the database.");
  }
}

/** A signal for the next change of the file. */
function manifestChange(path: string | undefined): { signal: AbortSignal; close(): void } {
  const controller = new AbortController();
  if (path === undefined) return { signal: controller.signal, close: () => undefined };
  let settle: NodeJS.Timeout | undefined;
  const watcher = watch(path, () => {
    clearTimeout(settle); // editors write in several steps
    settle = setTimeout(() => controller.abort(), 200);
  });
  return {
    signal: controller.signal,
    close: () => {
      clearTimeout(settle);
      watcher.close();
    },
  };
}

/** The source with its callbacks led to this machine's receiver: `dev` calls nobody else's endpoints. Modules run. */
function toReceiver(source: PgEventSource, url: string): PgEventSource {
  const callbacks = source.spec.callbacks.map(({ http, nats, kafka, stdout: _, ...callback }) => {
    if (callback.module !== undefined) return callback;
    const { format } = http ?? nats ?? kafka ?? { format: "CloudEventsStructured" as const };
    return { ...callback, http: { uri: `${url}/${callback.name}`, format, protocol: "Http1" as const } };
  });
  return { ...source, spec: { ...source.spec, callbacks } };
}

function sample(): PgEventSource {
  const spec = { callbacks: [{ name: "terminal", http: { uri: "http://localhost/" } }] };
  return parsePgEventSource(
    { apiVersion: API_VERSION, kind: KIND, metadata: { name: "sample" }, spec },
    "the sample",
  );
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
