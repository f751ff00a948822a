/** Puts a worker together from a source and its settings; used by `worker` and by `dev`. */

import type { Registry } from "prom-client";
import { createTransport } from "../callbacks/registry.ts";
import type { ModuleSpec } from "../core/api/callback.ts";
import type { PgEventSource } from "../core/api/source.ts";
import type { ModuleFunctions } from "../core/delivery/module-functions.ts";
import { describeError } from "../core/errors.ts";
import type { DatabaseSettings, ReadSecret } from "../core/settings/database.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";
import type { SinkBinding } from "../core/settings/sink-binding.ts";
import { buildCapture } from "../postgres/build.ts";
import { Logins } from "../postgres/logins.ts";
import type { Logger } from "../runtime/log.ts";
import { VERSION } from "../version.ts";
import { runWorker, type WorkerHealth } from "../worker/worker.ts";

export interface WorkerSetup {
  readonly source: PgEventSource;
  /** Called for each new connection, so that changed credentials are used; what was read last counts when it throws. */
  readonly settings: () => DatabaseSettings;
  readonly readSecret: ReadSecret;
  /** Which functions a module callback calls. */
  readonly moduleFunctions: (module: ModuleSpec) => ModuleFunctions;
  /** What a SinkBinding says of a callback. */
  readonly bindingOf?: (callback: string) => SinkBinding | undefined;
  readonly owner: string;
  readonly allowLoopback: boolean;
  readonly proxy?: ProxySettings | undefined;
  readonly registry: Registry;
  readonly log: Logger;
  readonly drainTimeoutMs: number;
  readonly onHealth?: (health: WorkerHealth) => void;
}

/** Connections of the pool: reads and checkpoints of all callbacks share them. */
const POOL_SIZE = 5;

export function runWorkerWith(setup: WorkerSetup, signal: AbortSignal): Promise<void> {
  const { source, settings, log } = setup;
  const { capture } = source.spec;
  const logins = new Logins(lastGood(settings, log));
  const callbacks = source.spec.callbacks.map(({ name }) => name);
  const rebuild = async (): Promise<void> => {
    const request = { capture, callbacks, owner: setup.owner, version: VERSION };
    const report = await logins.use((current) =>
      buildCapture(current, request, { mode: "apply", onlyIfCurrent: true }),
    );
    if (report.changed)
      log.info(
        { tables: report.tables, actions: report.actions.map(({ id }) => id) },
        "schema changed: capture renewed",
      );
    if (report.pending.length > 0)
      log.warn(
        { pending: report.pending.map(({ id }) => id) },
        "capture differs from the spec, and spec.capture.install is Manual: run the SQL of `pg-events build --dry-run`",
      );
    for (const { where, code } of report.failures) log.warn({ where, code }, "not captured");
  };
  return runWorker(
    {
      source,
      pool: logins.createPool(POOL_SIZE),
      connect: () => logins.connect(),
      createTransport: (callback, origin) => {
        const binding = setup.bindingOf?.(callback.name);
        return createTransport(callback, {
          origin: binding === undefined ? origin : { ...origin, extensions: binding.extensions },
          caCerts: binding?.caCerts,
          readSecret: setup.readSecret,
          addresses: { allowLoopback: setup.allowLoopback },
          proxy: setup.proxy,
          userAgent: `pg-events/${VERSION}`,
          moduleFunctions: setup.moduleFunctions,
        });
      },
      rebuild: capture.schemaChanges === "Off" ? null : rebuild,
      registry: setup.registry,
      log,
      drainTimeoutMs: setup.drainTimeoutMs,
    },
    signal,
    setup.onHealth,
  );
}

/** A Secret that cannot be used does not stop what runs with the one before it; that is told once. */
function lastGood(settings: () => DatabaseSettings, log: Logger): () => DatabaseSettings {
  let good = settings();
  let told = "";
  return () => {
    try {
      good = settings();
      told = "";
    } catch (error) {
      const text = describeError(error);
      if (text !== told) log.warn({ error: text }, "going on with the database settings from before");
      told = text;
    }
    return good;
  };
}
