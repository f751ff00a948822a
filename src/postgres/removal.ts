/** Removes capture without a trace: the triggers, table by table, then the schema. */
import type pg from "pg";
import { type CaptureNames, captureNames } from "../core/capture/names.ts";
import { type RemovalTransaction, removalTransactions } from "../core/capture/removal.ts";
import { transactionText } from "../core/capture/transactions.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { inTransaction, LOCK_STATES, lockPause, sqlState } from "./apply.ts";
import { withBuildLock } from "./build-lock.ts";
import { readCatalog } from "./catalog.ts";
import { connectDatabase, databaseError, serverVersionOf } from "./connect.ts";

/** Rounds over the tables that others had locked. */
const ROUNDS = 5;
const NOTHING: RemovalReport = { removed: false, tables: 0 };
/** Who does not own a table may make a trigger there, and not drop it: it goes with the schema then. */
const NO_RIGHT = "42501";

export interface RemovalRequest {
  readonly schemaName: string;
  /** Only this owner's capture is removed. */
  readonly owner: string;
}

export interface RemovalReport {
  /** False: there was nothing of ours. */
  readonly removed: boolean;
  readonly tables: number;
}

/** @throws PgEventsError PGE_OWNERSHIP_CONFLICT, LockTimeout and connection errors; running it again goes on */
export async function removeCapture(
  settings: DatabaseSettings,
  request: RemovalRequest,
): Promise<RemovalReport> {
  const names = captureNames(request.schemaName);
  return withConnection(settings, NOTHING, (client) =>
    withBuildLock({ settings, names }, async () => {
      const transactions = await planned(client, names, request.owner);
      await remove(client, settings, transactions);
      const tables = transactions.filter(({ table }) => table !== null).length;
      return transactions.length === 0 ? NOTHING : { removed: true, tables };
    }),
  );
}

/** The SQL that a removal would run, a transaction each; changes nothing. @throws PgEventsError as `removeCapture` */
export async function removalSql(settings: DatabaseSettings, request: RemovalRequest): Promise<string[]> {
  const names = captureNames(request.schemaName);
  return withConnection(settings, [], async (client) => {
    const transactions = await planned(client, names, request.owner);
    return transactions.map(({ statements }) =>
      transactionText(statements, settings, serverVersionOf(client)),
    );
  });
}

async function withConnection<T>(
  settings: DatabaseSettings,
  nothing: T,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connectDatabase(settings, "build");
  try {
    return await work(client);
  } catch (error) {
    if (error instanceof PgEventsError && error.code === "PGE_SERVER_TOO_OLD") return nothing; // nothing was ever built
    throw databaseError(error, settings);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function planned(client: pg.Client, names: CaptureNames, owner: string): Promise<RemovalTransaction[]> {
  const catalog = await readCatalog(client, names);
  const ownedBy = catalog.installation?.owner ?? catalog.schema.damagedOwner;
  if (ownedBy === null) return [];
  if (ownedBy === owner) return removalTransactions(catalog, names);
  const message = `Schema ${names.schemaName} belongs to ${ownedBy}, not to ${owner}; nothing was removed.`;
  throw new PgEventsError("PGE_OWNERSHIP_CONFLICT", message, { reason: "OwnershipConflict" });
}

async function remove(
  client: pg.Client,
  settings: DatabaseSettings,
  transactions: readonly RemovalTransaction[],
): Promise<void> {
  for (const { table, statements } of transactions) {
    await retryLocked(() => inTransaction({ client, settings }, statements)).catch((error: unknown) => {
      if (table === null || sqlState(error) !== NO_RIGHT) throw error;
    });
  }
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
