/**
 * Types whose values become JSON by a function of somebody whom the owner of capture does not trust: `row_to_json`
 * follows a user's `create cast (type as json)`, and runs it with the rights of the function that captures. Tables with
 * such a column are not captured. Pieces of SQL for a search path of pg_catalog.
 */
import type { CaptureNames } from "./names.ts";
import { literal } from "./quote.ts";

/** The role whose rights are at stake: the owner of the outbox, or whoever is about to make it. */
const ownerOfCapture = ({ schemaName }: CaptureNames) => `coalesce(
  (select relowner from pg_class as made join pg_namespace as ours on ours.oid = made.relnamespace
    where ours.nspname = ${literal(schemaName)} and made.relname = 'outbox'),
  (select oid from pg_roles where rolname = current_user))`;

/**
 * A query for (type, cast_id): types with such a cast, and all that are made of them, rows of tables too. Normally
 * empty, and then it reads only pg_cast. Trusted are superusers, as extensions' functions are theirs, and who has the
 * owner's rights anyway.
 */
export function unsafeTypes(names: CaptureNames): string {
  return unsafeTypesUnless(`pg_has_role(proowner, ${ownerOfCapture(names)}, 'USAGE')`);
}

/** A query for the digest of all that the answer of `unsafeTypes` follows from. */
export const CASTS_DIGEST = `select md5(coalesce(string_agg(concat_ws(' ', type, cast_id, proowner, rolsuper), ',' order by type, cast_id), ''))
  from (${unsafeTypesUnless("false")}) as every
  join pg_cast on pg_cast.oid = cast_id
  join pg_proc on pg_proc.oid = castfunc
  join pg_roles on pg_roles.oid = proowner`;

/** @param trusted a condition on pg_proc */
function unsafeTypesUnless(trusted: string): string {
  return `with recursive unsafe (type, cast_id) as (
      select castsource, pg_cast.oid
      from pg_cast
      join pg_proc on pg_proc.oid = castfunc
      where casttarget = 'json'::regtype and castmethod = 'f' and not (${trusted})
      union
      select made.type, cast_id
      from unsafe
      cross join lateral (
        select oid from pg_type where unsafe.type in (typelem, typbasetype)
        union all
        select unnest(array[rngtypid, rngmultitypid]) from pg_range where rngsubtype = unsafe.type
        union all
        select reltype from pg_attribute join pg_class on pg_class.oid = attrelid
        where atttypid = unsafe.type and attnum > 0 and not attisdropped and reltype <> 0
      ) as made (type)
    )
    select type, cast_id from unsafe`;
}
