/**
 * What of a capture somebody else has changed: objects of ours that differ although neither the spec nor their
 * tables have changed since they were made. Pure.
 *
 * A trigger carries in its arguments what it was made for (key, version of the columns, rule), so one that is as a
 * build would make it now vouches that its table is the same as then.
 */
import type { CaptureAction } from "./diff.ts";
import { hasAllEventTriggers } from "./event-triggers.ts";
import { type DesiredTable, type ObservedCatalog, type ObservedTrigger, tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { isCurrent, type TriggeredTable } from "./triggers.ts";

/** Parts of capture that are no table. */
const PARTS: Readonly<Partial<Record<CaptureAction["kind"], string>>> = {
  Migrate: "schema",
  ReplaceFunctions: "functions",
  AddCallback: "callbacks",
  RemoveCallback: "callbacks",
  FollowSchemaChanges: "event triggers",
};

/**
 * What differs by the hand of others, of what a build has to do: tables, and parts such as `functions`. To be
 * believed only where spec and version are those of the last build.
 */
export function driftIn(
  actions: readonly CaptureAction[],
  tables: readonly DesiredTable[],
  catalog: ObservedCatalog,
  names: CaptureNames,
): string[] {
  const { installation } = catalog;
  if (installation === null) return ["schema"];
  if (actions.length === 0) return []; // as of nearly every look at a database
  const wanted = new Map(tables.map((table) => [tableText(table), table]));
  const triggers = new Map(catalog.relations.map((relation) => [tableText(relation), relation.triggers]));
  const told = tellsNewTables(catalog);
  const places = actions.flatMap((action) => {
    if (action.kind === "RestoreOwnership") return installation.ownerRights ? [] : "rights";
    if (action.kind !== "SetTriggers") return PARTS[action.kind] ?? [];
    const place = tableText(action.table);
    const table = wanted.get(place);
    const drifted = table !== undefined && isDrift(triggers.get(place) ?? [], table, action, told, names);
    return drifted ? place : [];
  });
  return [...new Set(places)];
}

/** @param told nobody has made a table without our knowing */
function isDrift(
  triggers: readonly ObservedTrigger[],
  { isPartition, replicated }: DesiredTable,
  table: TriggeredTable,
  told: boolean,
  names: CaptureNames,
): boolean {
  // A partition may have been a table that is not captured: of ATTACH PARTITION we are not told.
  if (triggers.length === 0) return told && !isPartition;
  const vouched = triggers.some(
    (trigger) => VOUCHING.includes(trigger.kind ?? "") && isCurrent(trigger, table, names),
  );
  return vouched || triggers.some((trigger) => isAltered(trigger, replicated));
}

/** Triggers whose arguments are about the table. */
const VOUCHING: readonly string[] = ["Insert", "Update", "Delete"];

/** Renamed, disabled, or made for something else: no change of a table does that. */
function isAltered({ kind, tail, enabled, clonesAlike }: ObservedTrigger, replicated: boolean): boolean {
  // Before PostgreSQL 15 a partition that comes has its triggers enabled for no replica.
  const ofPartitions = !clonesAlike && !replicated;
  return kind === null || tail === null || enabled !== (replicated ? "A" : "O") || ofPartitions;
}

/** A table that came since the last build has its triggers, or the build knows that there are changes to tell of. */
function tellsNewTables({ installation, eventTriggers }: ObservedCatalog): boolean {
  if (installation?.schemaChangeMode === "Poll") return !installation.tablesChanged;
  return installation?.schemaChangeMode === "EventTrigger" && hasAllEventTriggers(eventTriggers);
}
