/** A digest of what a build looks at in the catalog; cheap enough to ask for every few seconds. */
import type { Pool, QueryResult } from "pg";
import { CASTS_DIGEST } from "../core/capture/unsafe-types.ts";
import { CATALOG_SETTINGS } from "./catalog.ts";
import { withPoolClient } from "./connect.ts";

/**
 * Changes when a table is created, renamed, moved, attached to another one or dropped, when its columns,
 * constraints, owner or rights change, when a trigger on it is made, dropped, disabled or replaced, or when it becomes,
 * or is no longer, one that has to be left out for its types.
 */
export async function schemaFingerprint(pool: Pool): Promise<string> {
  return withPoolClient(pool, async (client) => {
    const results: unknown = await client.query(`begin; ${CATALOG_SETTINGS}; ${FINGERPRINT_QUERY}; commit`);
    const answer = (results as QueryResult<{ fingerprint: string }>[]).find(({ rows }) => rows.length > 0);
    return answer?.rows[0]?.fingerprint ?? "";
  });
}

const FINGERPRINT_QUERY = `
  select md5(
    coalesce((
      select string_agg(concat_ws(' ', relation.oid, relname, nspname, relkind, relispartition, relowner, relacl, parents.digest, columns.digest, constraints.digest, triggers.digest), ',' order by relation.oid)
      from pg_class as relation
      join pg_namespace as namespace on namespace.oid = relnamespace
      left join lateral (
        select string_agg(inhparent::text, ',' order by inhseqno) as digest from pg_inherits where inhrelid = relation.oid
      ) as parents on true
      left join lateral (
        select string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod, attisdropped, attnotnull, atthasdef, attidentity), ',' order by attnum) as digest
        from pg_attribute where attrelid = relation.oid and attnum > 0
      ) as columns on true
      left join lateral (
        select string_agg(concat_ws(' ', oid, conname, contype, conkey), ',' order by oid) as digest
        from pg_constraint where conrelid = relation.oid and contype <> 't'
      ) as constraints on true
      left join lateral (
        select string_agg(concat_ws(' ', oid, tgname, tgenabled, tgfoid, tgtype, encode(tgargs, 'hex')), ',' order by oid) as digest
        from pg_trigger where tgrelid = relation.oid and not tgisinternal
      ) as triggers on true
      where relkind in ('r', 'p') and relpersistence <> 't'
        and nspname <> 'information_schema' and nspname !~ '^pg_'
    ), '') || (${CASTS_DIGEST})
  ) as fingerprint`;
