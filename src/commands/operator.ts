import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import { PgEventsError } from "../core/errors.ts";
import { type KubeConfig, KubernetesClient, loadKubeConfig } from "../kubernetes/client.ts";
import { LeaderElection } from "../kubernetes/leader-election.ts";
import { Controller } from "../operator/controller.ts";
import { OperatorMetrics } from "../operator/metrics.ts";
import { observeProcess } from "../operator/process-metrics.ts";
import { parseAddress } from "../runtime/http-server.ts";
import { createLogger, LOG_LEVELS, type LogLevel } from "../runtime/log.ts";
import { createRegistry, eventLoopCheck, serveMetrics, serveProbes } from "../runtime/observability.ts";
import { shutdownSignal } from "../runtime/shutdown.ts";
import { REVISION, VERSION } from "../version.ts";
import { type ProxyFlags, proxyOf, withProxyOptions } from "./proxy-options.ts";

/** Milliseconds that reconciles under way have after SIGTERM. */
const STOP_GRACE_MS = 10_000;
/** `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`, separated by commas: what the API server takes; it says the rest. */
const SELECTOR = /^[-A-Za-z0-9_./,=!() ]{1,1000}$/;
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

interface OperatorFlags extends ProxyFlags {
  readonly namespaces: string[];
  readonly labelSelector?: string;
  readonly workerImage: string;
  readonly imagePullPolicy: string;
  readonly leaderElectionNamespace: string;
  readonly leaderElectionId: string;
  readonly leaseDurationSeconds: number;
  readonly renewDeadlineSeconds: number;
  readonly retryPeriodSeconds: number;
  readonly metricsAddress: string;
  readonly probesAddress: string;
  readonly maxConcurrentReconciles: number;
  readonly resyncSeconds: number;
  readonly requireSecretLabel: boolean;
  readonly callbackNamespaces: string[];
  readonly logLevel: LogLevel;
  readonly kubeconfig?: string;
}

export function operatorCommand(): Command {
  const option = (flags: string, text: string, env?: string) => {
    const made = new Option(flags, text);
    return env === undefined ? made : made.env(env);
  };
  const command = new Command("operator")
    .description("Watch PgEventSources, build their capture and run their workers.")
    .addOption(
      option(
        "--namespaces <list>",
        "namespaces to watch, separated by commas (default: all)",
        "PG_EVENTS_WATCH_NAMESPACES",
      )
        .argParser(list)
        .default([], "all"),
    )
    .addOption(
      option(
        "--label-selector <selector>",
        "only PgEventSources with these labels, such as team=data; another operator may have the others (default: all)",
      ).argParser(selector),
    )
    .addOption(
      option(
        "--worker-image <image>",
        "image of the worker pods",
        "PG_EVENTS_WORKER_IMAGE",
      ).makeOptionMandatory(),
    )
    .addOption(
      option("--image-pull-policy <policy>", "for the worker pods")
        .choices(["Always", "IfNotPresent", "Never"])
        .default("IfNotPresent"),
    )
    .addOption(
      option("--leader-election-namespace <name>", "namespace of the Lease", "POD_NAMESPACE").default(
        "default",
      ),
    )
    .addOption(option("--leader-election-id <name>", "name of the Lease").default("pg-events-operator"))
    .addOption(
      option("--lease-duration-seconds <number>", "a leader that is silent for this long is replaced")
        .argParser(seconds)
        .default(15),
    )
    .addOption(
      option("--renew-deadline-seconds <number>", "a leader that cannot renew for this long ends")
        .argParser(seconds)
        .default(10),
    )
    .addOption(
      option("--retry-period-seconds <number>", "between attempts to get or renew the Lease")
        .argParser(seconds)
        .default(2),
    )
    .addOption(
      option("--metrics-address <address>", "where /metrics is served").argParser(address).default(":9090"),
    )
    .addOption(
      option("--probes-address <address>", "where /livez and /readyz are served")
        .argParser(address)
        .default(":8081"),
    )
    .addOption(
      option("--max-concurrent-reconciles <number>", "sources, and so database connections, at once")
        .argParser(seconds)
        .default(5),
    )
    .addOption(
      option("--resync-seconds <number>", "between looks at a source that is well")
        .argParser(seconds)
        .default(60),
    )
    .addOption(
      option(
        "--require-secret-label <boolean>",
        'Secrets that are sent to callbacks need the label pgevents.dev/allow: "true"',
      )
        .argParser(boolean)
        .default(true),
    )
    .addOption(
      option(
        "--callback-namespaces <list>",
        "namespaces besides its own whose Services and other objects a callback may refer to (default: none)",
      )
        .argParser(list)
        .default([], "none"),
    )
    .addOption(
      option("--log-level <level>", "how much is logged", "PG_EVENTS_LOG_LEVEL")
        .choices(LOG_LEVELS)
        .default("Info"),
    )
    .addOption(option("--kubeconfig <file>", "instead of KUBECONFIG or the pod's service account"));
  return withProxyOptions(command).action((flags: OperatorFlags, given: Command) => run(flags, given));
}

async function run(flags: OperatorFlags, command: Command): Promise<void> {
  if (
    flags.renewDeadlineSeconds >= flags.leaseDurationSeconds ||
    flags.retryPeriodSeconds >= flags.renewDeadlineSeconds
  ) {
    command.error(
      "error: --retry-period-seconds must be less than --renew-deadline-seconds, and that less than --lease-duration-seconds.",
    );
  }
  const proxy = proxyOf(flags);
  configOf(flags.kubeconfig); // a wrong file ends the program with a message, before it serves anything
  const log = createLogger(flags.logLevel, { component: "operator" });
  const registry = createRegistry(VERSION, REVISION);
  const metrics = new OperatorMetrics(registry);
  const client = new KubernetesClient(
    () => configOf(flags.kubeconfig),
    (report) => metrics.requested(report),
  );
  const instance = `${hostname()}_${randomUUID()}`;
  const stop = shutdownSignal();
  const controller: Controller = new Controller(
    client,
    () => election,
    { ...flags, proxy, version: VERSION, instance },
    metrics,
    log,
  );
  const election = new LeaderElection({
    ...flags,
    client,
    namespace: flags.leaderElectionNamespace,
    name: flags.leaderElectionId,
    identity: instance,
    onFailure: (error) => log.warn({ error: error.message }, "lease not reached, trying again"),
    onElected: (epoch) => {
      log.info({ epoch }, "leading");
      controller.lead(epoch);
    },
    onLost: () => {
      log.error({}, "leadership lost, ending");
      process.exit(1); // at once: a successor may be at work already
    },
  });
  observeProcess(registry, controller.readings());
  const servers = [
    await serveMetrics(flags.metricsAddress, registry),
    await serveProbes(flags.probesAddress, {
      live: {
        "event loop": eventLoopCheck(),
        lease: () => (election.isLeader && !election.holdsSafely ? "not renewed in time" : null),
        watches: () => (controller.stale ? "no sign of life from the API server for 10 minutes" : null),
      },
      ready: {
        lease: () => (election.reached ? null : "the Lease was never read or written"),
        watches: () => (controller.synced ? null : "first lists are not complete"),
        running: () => (stop.aborted ? "shutting down" : null),
      },
    }),
  ];
  process.on("unhandledRejection", (error) => {
    log.fatal({ error: (error as Error)?.message }, "unhandled rejection");
    process.exit(1);
  });
  log.info({ version: VERSION, revision: REVISION, namespaces: flags.namespaces }, "operator started");
  const ending = new AbortController();
  const watching = controller.watch(ending.signal);
  const electing = election.run(ending.signal);
  await new Promise<void>((resolve) => {
    if (stop.aborted) resolve();
    stop.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info({}, "stopping");
  await controller.stop(STOP_GRACE_MS); // the lease is renewed until this is done
  ending.abort();
  await Promise.all([watching, electing]);
  await Promise.all(servers.map((server) => server.close()));
  await client.close();
  log.info({}, "operator stopped");
}

/** @throws PgEventsError PGE_KUBECONFIG_INVALID */
function configOf(file: string | undefined): KubeConfig {
  try {
    const config = loadKubeConfig(file);
    if (config.getCurrentCluster() !== null) return config;
  } catch (error) {
    throw kubeconfigInvalid(file, (error as Error).message);
  }
  throw kubeconfigInvalid(file, "it has no current cluster");
}

function kubeconfigInvalid(file: string | undefined, problem: string): PgEventsError {
  return new PgEventsError(
    "PGE_KUBECONFIG_INVALID",
    `${file ?? "The Kubernetes configuration"}: ${problem}.`,
    {
      remedy: "Set --kubeconfig or KUBECONFIG, or run in a pod with a service account.",
    },
  );
}

function list(text: string): string[] {
  const names = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  const wrong = names.find((name) => !NAMESPACE.test(name));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`${JSON.stringify(wrong)} is not the name of a namespace.`);
  return [...new Set(names)];
}

function selector(text: string): string {
  if (!SELECTOR.test(text)) throw new InvalidArgumentError("It must be a label selector such as team=data.");
  return text;
}

function address(text: string): string {
  try {
    parseAddress(text, "It");
    return text;
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function seconds(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 86_400)
    throw new InvalidArgumentError("It must be a whole number from 1 to 86400.");
  return number;
}

function boolean(text: string): boolean {
  if (text !== "true" && text !== "false") throw new InvalidArgumentError("It must be true or false.");
  return text === "true";
}
