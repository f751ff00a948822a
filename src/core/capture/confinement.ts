/**
 * Where capture belongs to a superuser, the functions that run in every write do not: they belong to a role that may
 * only append to an outbox. What a type of a user may make them run (`unsafe-types.ts`) then runs with that role's
 * rights. Pieces of SQL for a search path of pg_catalog.
 */
import type { CaptureNames } from "./names.ts";
import { ident, literal } from "./quote.ts";

/** The same in every database of a server, as roles are. */
const CAPTURE_ROLE = "pgevents_capture";

/** Whether the outbox belongs to a superuser. */
export function ownedBySuperuser({ schemaName }: CaptureNames): string {
  return `exists (
    select from pg_catalog.pg_class
    join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
    join pg_catalog.pg_roles on pg_roles.oid = relowner
    where nspname = ${literal(schemaName)} and relname = 'outbox' and rolsuper)`;
}

/** A query for the statements that are missing until the functions are confined; none where no superuser owns capture. */
export function missingConfinement(names: CaptureNames): string {
  const namespace = `(select oid from pg_namespace where nspname = ${literal(names.schemaName)})`;
  const role = `(select oid from pg_roles where rolname = ${literal(CAPTURE_ROLE)})`;
  const lacks = (check: string, object: string, privilege: string) =>
    `${check}(${role}, ${object}, ${literal(privilege)}) is not true`;
  const ofRelation = (privileges: string, where: string, missing: string) => `
    select format('grant ${privileges} on %s', oid::regclass)
    from pg_class where relnamespace = ${namespace} and case when ${where} then ${missing} end`;
  return `select statement || ' to ${CAPTURE_ROLE}' as statement
    from (
      select format('alter function %s owner', oid::regprocedure) as statement
      from pg_proc
      where pronamespace = ${namespace} and prorettype = 'trigger'::regtype and proowner is distinct from ${role}
      union all
      select ${literal(`grant usage on schema ${names.schema}`)} where ${lacks("has_schema_privilege", namespace, "USAGE")}
      union all
      ${ofRelation("insert", "relkind in ('r', 'p') and relname ~ '^outbox(_\\d+)?$'", lacks("has_table_privilege", "oid", "INSERT"))}
      union all
      ${ofRelation("usage, select", "relkind = 'S'", `${lacks("has_sequence_privilege", "oid", "USAGE")} or ${lacks("has_sequence_privilege", "oid", "SELECT")}`)}
      union all
      ${ofRelation("select (hash_salt)", "relname = 'installation'", `has_column_privilege(${role}, oid, 'hash_salt', 'SELECT') is not true`)}
      union all
      select format('grant execute on function %s', oid::regprocedure)
      from pg_proc
      where pronamespace = ${namespace} and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
        and (not prosecdef or proname = 'move_nested') and ${lacks("has_function_privilege", "oid", "EXECUTE")}
    ) as missing
    where ${ownedBySuperuser(names)}`;
}

/** Times that the role may be dropped by the removal of another capture while it is given what it needs. */
const ATTEMPTS = 20;

/** A statement that confines the functions, and makes the role where it is not there yet. */
export function confineFunctions(names: CaptureNames): string {
  return `do $confine$
declare missing record;
begin
  for attempt in 1 .. ${ATTEMPTS} loop
    begin
      if ${ownedBySuperuser(names)} and not exists (select from pg_roles where rolname = ${literal(CAPTURE_ROLE)}) then
        begin
          create role ${ident(CAPTURE_ROLE)} nologin;
        exception when duplicate_object or unique_violation then null; -- a build in another database has made it
        end;
      end if;
      for missing in ${missingConfinement(names)} loop execute missing.statement; end loop;
      exit;
    exception when undefined_object then
      if attempt = ${ATTEMPTS} then raise; end if;
    end;
  end loop;
end $confine$`;
}

/** A statement that takes the role away, unless another capture needs it. */
export const DROP_CAPTURE_ROLE = `do $confine$
begin
  drop role if exists ${ident(CAPTURE_ROLE)};
exception when dependent_objects_still_exist or insufficient_privilege then null;
end $confine$`;
