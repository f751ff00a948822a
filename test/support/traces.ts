/** Everything in the catalog that a build could leave behind, as text to compare. */
import type { TestDatabase } from "./postgres.ts";

export async function traces({ query }: Pick<TestDatabase, "query">): Promise<string> {
  const { rows } = await query(`
    select 'schema ' || nspname as trace from pg_namespace where nspname !~ '^pg_(temp|toast_temp)'
    union all select 'relation ' || oid::regclass || relkind::text from pg_class where relnamespace::regnamespace::text !~ '^pg_'
    union all select 'function ' || oid::regprocedure from pg_proc where pronamespace::regnamespace::text !~ '^pg_'
    union all select 'trigger ' || tgname || ' ' || tgrelid::regclass from pg_trigger where not tgisinternal
    union all select 'event trigger ' || evtname from pg_event_trigger
    union all select 'rights ' || relacl::text || ' ' || oid::regclass from pg_class where relnamespace::regnamespace::text !~ '^pg_' and relacl is not null
    union all select 'comment ' || description from pg_description where objoid > 16384
    order by 1`);
  return rows.map(({ trace }) => String(trace)).join("\n");
}
