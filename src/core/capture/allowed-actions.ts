/**
 * The actions that the role may do, told from those it may not before any is tried. What PostgreSQL asks
 * for, seen on 14 and 18: to make or replace a trigger TRIGGER on the table, for a partitioned one on every
 * partition as well, and USAGE on the schema; to drop, rename or disable one the ownership of the table, that
 * of its schema is not enough, and so for ENABLE ALWAYS. EXECUTE on the function is asked of who makes the trigger, not of writers. Pure.
 */
import type { CaptureAction } from "./diff.ts";
import { dropEventTrigger } from "./event-triggers.ts";
import { type Finding, finding } from "./findings.ts";
import type { MissingRight, ObservedCatalog, ObservedRelation } from "./model.ts";
import { tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { ident, qualified } from "./quote.ts";
import { createTrigger } from "./triggers.ts";

export interface AllowedActions {
  readonly actions: readonly CaptureAction[];
  /** Why the others are left out. */
  readonly findings: readonly Finding[];
}

/** @param role the role in SQL to paste */
export function allowedActions(
  actions: readonly CaptureAction[],
  { relations, mayMakeEventTriggers }: Pick<ObservedCatalog, "relations" | "mayMakeEventTriggers">,
  names: CaptureNames,
  role: string,
): AllowedActions {
  const byName = new Map(relations.map((relation) => [tableText(relation), relation]));
  const findings: Finding[] = [];
  const allowed = actions.filter((action) => {
    const obstacle = obstacleOf(action, byName, mayMakeEventTriggers, names, role);
    if (obstacle !== null) findings.push(obstacle);
    return obstacle === null;
  });
  return { actions: allowed, findings };
}

function obstacleOf(
  action: CaptureAction,
  relations: ReadonlyMap<string, ObservedRelation>,
  mayMakeEventTriggers: boolean,
  names: CaptureNames,
  role: string,
): Finding | null {
  if (action.kind === "FollowSchemaChanges" && !mayMakeEventTriggers) {
    const where = "event triggers";
    if (action.create) {
      const message = "event triggers: only a superuser can make them.";
      const remedy =
        "Build once with a superuser's database URL (they stay in use), or set spec.capture.schemaChanges to Auto or Poll.";
      return finding("PermissionDenied", where, message, remedy);
    }
    if (action.drop.length === 0) return null;
    const message = "event triggers: only the superuser that made them can drop them.";
    return finding("PermissionDenied", where, message, `${action.drop.map(dropEventTrigger).join("; ")};`);
  }
  if (action.kind !== "SetTriggers") return null;
  const facts = relations.get(tableText(action.table))?.facts;
  if (facts === undefined) return null;
  const table = tableText(action.table);
  if (action.create.length > 0 && facts.missingRights.length > 0) {
    const message = `${table}: the role may not make triggers on it.`;
    const remedy = facts.missingRights.map((right) => grantText(right, role)).join(" ");
    return finding("PermissionDenied", table, message, remedy);
  }
  if (action.create.length > 0 && action.replicated && !facts.owned) {
    const message = `${table}: only the owner of a table can let its triggers fire for replication.`;
    return finding("PermissionDenied", table, message, `grant ${ident(facts.owner)} to ${role};`);
  }
  const made = action.create.map((operation) => createTrigger(operation, action, names).name);
  const dropped = action.drop.filter((name) => !made.includes(name));
  if (dropped.length === 0 || facts.owned) return null;
  const message = `${table}: the role may not drop triggers (${dropped.join(", ")}), as it does not own the table; everything stays as it is there.`;
  const on = qualified(action.table.schema, action.table.name);
  const remedy = dropped.map((name) => `drop trigger ${ident(name)} on ${on};`).join(" ");
  return finding("PermissionDenied", table, message, remedy);
}

function grantText({ privilege, object }: MissingRight, role: string): string {
  const on = privilege === "USAGE" ? `schema ${object}` : object;
  return `grant ${privilege.toLowerCase()} on ${on} to ${role};`;
}
