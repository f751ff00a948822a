import { Command, Option } from "commander";
import { prepareExpressions } from "../core/api/expressions.ts";
import { parsePgEventSource } from "../core/api/parse.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { PgEventsError } from "../core/errors.ts";
import { hiddenKeys } from "../core/reconcile/secret-references.ts";
import { bindSink } from "../core/settings/sink-binding.ts";
import { createLogger, LOG_LEVELS, type LogLevel } from "../runtime/log.ts";
import { createRegistry, eventLoopCheck, serveMetrics, serveProbes } from "../runtime/observability.ts";
import { secretFiles } from "../runtime/secret-files.ts";
import { shutdownSignal } from "../runtime/shutdown.ts";
import { REVISION, VERSION } from "../version.ts";
import type { WorkerHealth } from "../worker/worker.ts";
import { type DatabaseOptions, databaseOf, ownerOf, readManifest } from "./manifest.ts";
import { type ModuleOptions, moduleFiles } from "./module-files.ts";
import { type ProxyFlags, proxyOf, withProxyOptions } from "./proxy-options.ts";
import { runWorkerWith } from "./run-worker.ts";
import {
  checkSettingsFlags,
  readClassicSettings,
  type SettingsFlags,
  withSettingsOptions,
} from "./settings.ts";

interface WorkerFlags extends DatabaseOptions, SettingsFlags, ModuleOptions, ProxyFlags {
  readonly metricsAddress: string;
  readonly probesAddress: string;
  readonly drainSeconds: string;
  readonly logLevel: LogLevel;
}

export function workerCommand(): Command {
  const command = new Command("worker")
    .description("Relay change events to the callbacks until SIGTERM.")
    .option(
      "-f, --manifest <file>",
      "YAML file with a PgEventSource (environment: PG_EVENTS_SOURCE, the manifest itself as JSON)",
    );
  return withProxyOptions(withSettingsOptions(command))
    .option("--database-url <url>", "postgres:// URL (environment: PG_EVENTS_DATABASE_URL)")
    .addOption(
      new Option("--secrets <directory>", "files <secret>/<key> for the Secrets that the manifest names").env(
        "PG_EVENTS_SECRETS_DIR",
      ),
    )
    .addOption(
      new Option(
        "--modules <directory>",
        "files <ConfigMap>/<key> for the modules that the manifest names",
      ).env("PG_EVENTS_MODULES_DIR"),
    )
    .addOption(
      new Option("--metrics-address <address>", "where /metrics is served")
        .env("PG_EVENTS_METRICS_ADDRESS")
        .default("127.0.0.1:9090"),
    )
    .addOption(
      new Option("--probes-address <address>", "where /livez and /readyz are served")
        .env("PG_EVENTS_PROBES_ADDRESS")
        .default("127.0.0.1:8081"),
    )
    .addOption(
      new Option("--drain-seconds <number>", "time for requests under way after SIGTERM")
        .env("PG_EVENTS_DRAIN_SECONDS")
        .default("25"),
    )
    .addOption(
      new Option("--log-level <level>", "how much is logged")
        .env("PG_EVENTS_LOG_LEVEL")
        .choices(LOG_LEVELS)
        .default("Info"),
    )
    .action(run);
}

async function run(flags: WorkerFlags, command: Command): Promise<void> {
  checkSettingsFlags(flags, command);
  const drainSeconds = Number(flags.drainSeconds);
  if (!Number.isInteger(drainSeconds) || drainSeconds < 0 || drainSeconds > 3600) {
    throw new PgEventsError("PGE_FLAG_INVALID", "--drain-seconds must be a whole number from 0 to 3600.");
  }
  const proxy = proxyOf(flags);
  const classic = flags.settings === undefined ? null : await readClassicSettings(flags.settings, flags);
  const { source, bindingOf } = bindSink(classic?.source ?? (await sourceOf(flags)), process.env);
  const settings = () => classic?.database ?? databaseOf(source, flags);
  // What is wrong with these ends the program with a message, before it serves anything.
  settings();
  const moduleFunctions = classic === null ? moduleFiles(source, flags) : () => classic.functions;
  const log = createLogger(flags.logLevel, { component: "worker", source: source.metadata.name });
  const registry = createRegistry(VERSION, REVISION);
  const signal = shutdownSignal();
  let health: WorkerHealth = { ready: () => false };
  const metrics = await serveMetrics(flags.metricsAddress, registry);
  const probes = await serveProbes(flags.probesAddress, {
    live: { "event loop": eventLoopCheck() },
    ready: {
      database: () => (health.ready() ? null : "not reached"),
      running: () => (signal.aborted ? "shutting down" : null),
    },
  });
  if (classic !== null) log.info({ file: classic.file }, "classic settings");
  log.info(
    { version: VERSION, revision: REVISION, metrics: metrics.port, probes: probes.port },
    "worker started",
  );
  await runWorkerWith(
    {
      source,
      settings,
      moduleFunctions,
      bindingOf,
      readSecret: secretFiles(flags.secrets, hiddenKeys(source.spec)),
      owner: ownerOf(source),
      allowLoopback: process.env.KUBERNETES_SERVICE_HOST === undefined,
      proxy,
      registry,
      log,
      drainTimeoutMs: drainSeconds * 1000,
      onHealth: (state) => {
        health = state;
      },
    },
    signal,
  );
  await Promise.all([metrics.close(), probes.close()]);
}

async function sourceOf({ manifest }: WorkerFlags): Promise<PgEventSource> {
  if (manifest !== undefined) return readManifest(manifest);
  const text = process.env.PG_EVENTS_SOURCE;
  if (text === undefined || text === "") {
    throw new PgEventsError("PGE_MANIFEST_MISSING", "No source is given.", {
      remedy: "Set --manifest, --settings or PG_EVENTS_SOURCE.",
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new PgEventsError("PGE_MANIFEST_UNREADABLE", "PG_EVENTS_SOURCE is not JSON.");
  }
  const source = parsePgEventSource(value, "PG_EVENTS_SOURCE");
  await prepareExpressions(source, "PG_EVENTS_SOURCE");
  return source;
}
