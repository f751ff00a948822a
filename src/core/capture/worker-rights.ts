/**
 * What the role of a worker needs in the capture schema when that belongs to another role, as with
 * `install: Manual`: to read and write what is in it, and nothing outside. The operator's looks need no more.
 */
import type { CaptureNames } from "./names.ts";
import { ident, literal } from "./quote.ts";

const TABLE_PRIVILEGES = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];
const SEQUENCE_PRIVILEGES = ["SELECT", "UPDATE", "USAGE"];

/** Statements that give a role all of it. */
export function grantWorkerRights(role: string, { schema }: CaptureNames): string[] {
  const to = ident(role);
  const all = (privileges: readonly string[], objects: string) =>
    `grant ${privileges.join(", ").toLowerCase()} on all ${objects} in schema ${schema} to ${to}`;
  return [
    `grant usage on schema ${schema} to ${to}`,
    all(TABLE_PRIVILEGES, "tables"),
    all(SEQUENCE_PRIVILEGES, "sequences"),
    all(["EXECUTE"], "functions"),
  ];
}

/**
 * A boolean expression for a search path of pg_catalog: whether a role has all of it.
 * @param role an expression of type name
 */
export function holdsWorkerRights(role: string, { schemaName }: CaptureNames): string {
  const namespace = `(select oid from pg_namespace where nspname = ${literal(schemaName)})`;
  const every = (check: string, privileges: readonly string[]) =>
    privileges.map((privilege) => `${check}(${role}, oid, ${literal(privilege)})`).join(" and ");
  return `(has_schema_privilege(${role}, ${namespace}, 'USAGE')
    and not exists (select from pg_class where relnamespace = ${namespace} and relkind in ('r', 'p') and not (${every("has_table_privilege", TABLE_PRIVILEGES)}))
    and not exists (select from pg_class where relnamespace = ${namespace} and case when relkind = 'S' then not (${every("has_sequence_privilege", SEQUENCE_PRIVILEGES)}) end)
    and not exists (select from pg_proc where pronamespace = ${namespace} and not has_function_privilege(${role}, oid, 'EXECUTE')))`;
}
