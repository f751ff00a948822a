/** Dead letters: whole events, so that they outlive the outbox segment they came from. */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";

/**
 * Storing the same event twice keeps one row.
 * @returns once the dead letter is durable: true; false when the event was dropped from the outbox before
 */
export async function storeDeadLetter(
  pool: Pool,
  names: CaptureNames,
  letter: { callback: string; transactionId: string; id: string; attempts: number; error: string },
): Promise<boolean> {
  const { rowCount } = await pool.query({
    text: `
      insert into ${names.schema}.dead_letter (
        callback, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
        attempts, error)
      select $1, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
        $4, $5
      from ${names.schema}.change_event
      where xid = $2::xid8 and id = $3::bigint
      on conflict (callback, id) do update
      set attempts = excluded.attempts, error = excluded.error, failed_at = now()`,
    values: [letter.callback, letter.transactionId, letter.id, letter.attempts, letter.error],
  });
  return rowCount === 1;
}
