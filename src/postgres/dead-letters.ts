/** Dead letters: whole events, so that they outlive the outbox segment they came from. */
import type { Pool } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";

const COLUMNS =
  "id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version";

/**
 * Makes a dead letter of an event, which is parked or in the outbox. Storing the same event twice keeps one row.
 * @returns once the dead letter is durable: true; false when the event was dropped before
 */
export async function storeDeadLetter(
  pool: Pool,
  { schema }: CaptureNames,
  letter: { callback: string; transactionId: string; id: string; attempts: number; error: string },
): Promise<boolean> {
  const { rowCount } = await pool.query({
    text: `
      with freed as (delete from ${schema}.parked where callback = $1 and id = $3::bigint returning ${COLUMNS})
      insert into ${schema}.dead_letter (callback, ${COLUMNS}, attempts, error)
      select $1, ${COLUMNS}, $4, $5
      from (
        select ${COLUMNS} from freed
        union all
        select ${COLUMNS} from ${schema}.change_events()
        where xid = $2::xid8 and id = $3::bigint and not exists (select from freed)
      ) as event
      on conflict (callback, id) do update
      set attempts = excluded.attempts, error = excluded.error, failed_at = now()`,
    values: [letter.callback, letter.transactionId, letter.id, letter.attempts, letter.error],
  });
  return rowCount === 1;
}
