/** Removes capture without a trace: the triggers, table by table, then the schema. */
import type pg from "pg";
import { dropEventTrigger } from "../core/capture/event-triggers.ts";
import { type CaptureNames, captureNames } from "../core/capture/names.ts";
import { ident, qualified } from "../core/capture/quote.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { inTransaction, LOCK_STATES, lockPause, sqlState } from "./apply.ts";
import { withBuildLock } from "./build-lock.ts";
import { readCatalog } from "./catalog.ts";
import { connectDatabase, databaseError } from "./connect.ts";

/** Rounds over the tables that others had locked. */
const ROUNDS = 5;
const NOTHING: RemovalReport = { removed: false, tables: 0 };
/** Who does not own a table may make a trigger there, and not drop it: it goes with the schema then. */
const NO_RIGHT = "42501";

export interface RemovalReport {
  /** False: there was nothing of ours. */
  readonly removed: boolean;
  readonly tables: number;
}

/**
 * @param owner only the owner's capture is removed
 * @throws PgEventsError PGE_OWNERSHIP_CONFLICT, LockTimeout and connection errors; running it again goes on
 */
export async function removeCapture(
  settings: DatabaseSettings,
  request: { schemaName: string; owner: string },
): Promise<RemovalReport> {
  const client = await connectDatabase(settings, "build");
  try {
    const names = captureNames(request.schemaName);
    return await withBuildLock({ settings, names }, () => remove(client, settings, names, request.owner));
  } catch (error) {
    if (error instanceof PgEventsError && error.code === "PGE_SERVER_TOO_OLD") return NOTHING; // nothing was ever built
    throw databaseError(error, settings);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function remove(
  client: pg.Client,
  settings: DatabaseSettings,
  names: CaptureNames,
  owner: string,
): Promise<RemovalReport> {
  const { installation, relations, eventTriggers } = await readCatalog(client, names);
  if (installation === null) return NOTHING;
  if (installation.owner !== owner) {
    throw new PgEventsError(
      "PGE_OWNERSHIP_CONFLICT",
      `Schema ${names.schemaName} belongs to ${installation.owner}, not to ${owner}; nothing was removed.`,
      {
        reason: "OwnershipConflict",
      },
    );
  }
  const run = (statements: string[]) => retryLocked(() => inTransaction({ client, settings }, statements));
  if (eventTriggers.length > 0) await run(eventTriggers.map(({ name }) => dropEventTrigger(name)));
  const captured = relations.filter(({ triggers }) => triggers.length > 0);
  for (const { schema, name, triggers } of captured) {
    const drops = triggers.map(
      (trigger) => `drop trigger if exists ${ident(trigger.name)} on ${qualified(schema, name)}`,
    );
    await run(drops).catch((error: unknown) => {
      if (sqlState(error) !== NO_RIGHT) throw error;
    });
  }
  await run([`drop schema ${names.schema} cascade`]);
  return { removed: true, tables: captured.length };
}

async function retryLocked(run: () => Promise<void>): Promise<void> {
  for (let round = 1; ; round += 1) {
    try {
      await run();
      return;
    } catch (error) {
      if (!LOCK_STATES.includes(sqlState(error) ?? "") || round === ROUNDS) throw error;
      await lockPause();
    }
  }
}
