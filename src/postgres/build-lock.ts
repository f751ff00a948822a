/**
 * One builder at a time for a capture schema. The lock belongs to a transaction that a second connection
 * keeps open, not to a session: behind a transaction pooler a session's lock would stay with a server
 * connection that is somebody else's by then.
 */
import type { CaptureNames } from "../core/capture/names.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { connectDatabase, databaseError } from "./connect.ts";

/** Seconds to wait for another build of the same schema. */
const BUILD_LOCK_SECONDS = 60;
/** Settings that may be on the role, and would end a transaction that waits for a long build; 17 has the last one. */
const LIMITS = ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"];

export interface BuildLockOptions {
  readonly settings: DatabaseSettings;
  readonly names: CaptureNames;
  readonly signal?: AbortSignal | undefined;
}

/** @throws PgEventsError PGE_LOCK_TIMEOUT when another build takes too long, and what `work` throws */
export async function withBuildLock<T>(
  { settings, names, signal }: BuildLockOptions,
  work: () => Promise<T>,
): Promise<T> {
  const holder = await connectDatabase(settings, "build");
  const stop = () => void holder.end().catch(() => undefined);
  signal?.addEventListener("abort", stop, { once: true });
  const seconds = Math.min(BUILD_LOCK_SECONDS, settings.statementTimeoutSeconds);
  const unlimited = LIMITS.map((name) => `'${name}'`).join(", ");
  try {
    await holder.query(
      `begin; set local lock_timeout = '${seconds}s';
       select pg_catalog.set_config(name, '0', true) from pg_catalog.pg_settings where name in (${unlimited})`,
    );
    await holder.query(`select pg_catalog.pg_advisory_xact_lock(${names.buildLock.join(", ")})`);
    return await work();
  } catch (error) {
    throw databaseError(error, settings);
  } finally {
    signal?.removeEventListener("abort", stop);
    await holder.end().catch(() => undefined);
  }
}
