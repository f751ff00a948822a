/**
 * What has to be done so that the database is as the spec wants it: set arithmetic over the catalog
 * and the plan. Actions are data; `ddl.ts` writes them as SQL and `src/postgres/apply.ts` runs them.
 * Triggers that do not call our functions are never touched.
 */
import { hasAllEventTriggers } from "./event-triggers.ts";
import type {
  CaptureEntry,
  DesiredTable,
  ObservedCatalog,
  ObservedRelation,
  SchemaChangeMode,
  TableName,
} from "./model.ts";
import { tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import type { FunctionOptions } from "./placeholders.ts";
import { isCurrent, type TriggeredTable, type TriggerKind, triggerKinds } from "./triggers.ts";

export type CaptureAction =
  | { readonly kind: "InstallSchema"; readonly id: string; readonly owner: string }
  | { readonly kind: "Migrate"; readonly id: string; readonly version: number }
  | {
      readonly kind: "ReplaceFunctions";
      readonly id: string;
      readonly hash: string;
      readonly options: FunctionOptions;
    }
  | { readonly kind: "RestoreOwnership"; readonly id: string }
  | { readonly kind: "GrantWorker"; readonly id: string; readonly role: string }
  | { readonly kind: "AddCallback"; readonly id: string; readonly callback: string }
  | SetTriggers
  | { readonly kind: "RemoveCallback"; readonly id: string; readonly callback: string }
  | { readonly kind: "TellSchemaChanges"; readonly id: string }
  | {
      readonly kind: "FollowSchemaChanges";
      readonly id: string;
      readonly mode: SchemaChangeMode;
      readonly fromMode: SchemaChangeMode | null;
      /** Event triggers to drop, and whether to make ours. */
      readonly drop: readonly string[];
      readonly create: boolean;
    }
  | {
      readonly kind: "RecordBuild";
      readonly id: string;
      readonly specHash: string;
      readonly version: string;
      readonly captureTables: readonly CaptureEntry[];
      readonly epoch: number | null;
    };

interface SetTriggers extends TriggeredTable {
  readonly kind: "SetTriggers";
  readonly id: string;
  readonly create: readonly TriggerKind[];
  readonly drop: readonly string[];
}

export interface DesiredCapture {
  readonly names: CaptureNames;
  readonly owner: string;
  readonly tables: readonly DesiredTable[];
  readonly callbacks: readonly string[];
  /** Versions of the files of sql/, in order. */
  readonly migrations: readonly number[];
  /** Fingerprint of the function files and of what is filled in. */
  readonly functionsHash: string;
  readonly functionOptions: FunctionOptions;
  readonly schemaChangeMode: SchemaChangeMode;
  readonly captureTables: readonly CaptureEntry[];
  readonly specHash: string;
  readonly version: string;
  /** The builder's epoch, when it has one: a lower one than the recorded is refused before. */
  readonly epoch: number | null;
  /** Role of the worker, where another one makes capture (`install: Manual`). */
  readonly workerRole: string | null;
}

export interface CaptureDiff {
  /** In the order they have to run. */
  readonly actions: readonly CaptureAction[];
}

export function diffCapture(desired: DesiredCapture, observed: ObservedCatalog): CaptureDiff {
  const { installation } = observed;
  const applied = new Set(installation?.migrations ?? []);
  const wanted = new Map(desired.tables.map((table) => [tableText(table), table]));
  const tableActions = observed.relations.flatMap((relation) =>
    setTriggers(relation, wanted.get(tableText(relation)), desired.names),
  );
  const known = installation?.callbacks ?? [];
  const actions: CaptureAction[] = [];
  if (installation === null) actions.push({ kind: "InstallSchema", id: "install", owner: desired.owner });
  for (const version of desired.migrations) {
    if (!applied.has(version)) actions.push({ kind: "Migrate", id: `migrate:${version}`, version });
  }
  if (installation?.functionsHash !== desired.functionsHash) {
    const { functionsHash: hash, functionOptions: options } = desired;
    actions.push({ kind: "ReplaceFunctions", id: "functions", hash, options });
  }
  // A superuser's build makes new functions that belong to that role.
  if (actions.length > 0 || installation?.ownerRights === false)
    actions.push({ kind: "RestoreOwnership", id: "ownership" });
  // What was made above is new to the worker's role as well.
  if (desired.workerRole !== null && (actions.length > 0 || installation?.workerRights !== true))
    actions.push({ kind: "GrantWorker", id: "grants", role: desired.workerRole });
  // A callback's position must be older than the first event of a trigger that is made for it.
  for (const callback of desired.callbacks.filter((name) => !known.includes(name))) {
    actions.push({ kind: "AddCallback", id: `callback:${callback}`, callback });
  }
  // First, so that an event of a table that is new goes before the events of its rows.
  if (
    desired.schemaChangeMode === "Poll" &&
    installation?.schemaChangeMode === "Poll" &&
    installation.tablesChanged
  )
    actions.push({ kind: "TellSchemaChanges", id: "tell-schema-changes" });
  actions.push(...tableActions, ...followSchemaChanges(desired.schemaChangeMode, observed));
  for (const callback of known.filter((name) => !desired.callbacks.includes(name))) {
    actions.push({ kind: "RemoveCallback", id: `callback:${callback}`, callback });
  }
  if (!isRecorded(desired, installation)) {
    const { specHash, version, captureTables, epoch } = desired;
    actions.push({ kind: "RecordBuild", id: "record", specHash, version, captureTables, epoch });
  }
  return { actions };
}

function setTriggers(
  relation: ObservedRelation,
  desired: DesiredTable | undefined,
  names: CaptureNames,
): SetTriggers[] {
  const { schema, name, triggers } = relation;
  const id = `table:${tableText(relation)}`;
  if (desired === undefined) {
    const drop = triggers.map((trigger) => trigger.name);
    return drop.length === 0
      ? []
      : [{ kind: "SetTriggers", id, ...unwanted({ schema, name }), create: [], drop }];
  }
  const { root, level, writtenAgain, about, rule, when, settingsMatter, replicated } = desired;
  const which = { table: { schema, name }, root, level, writtenAgain };
  const table: TriggeredTable = { ...which, about, rule, when, settingsMatter, replicated };
  const kinds = triggerKinds(desired.operations, table);
  const current = triggers.filter(
    (trigger) => kinds.some((one) => one === trigger.kind) && isCurrent(trigger, table, names),
  );
  const create = kinds.filter((kind) => !current.some((trigger) => trigger.kind === kind));
  const drop = triggers.filter((trigger) => !current.includes(trigger)).map((trigger) => trigger.name);
  return create.length === 0 && drop.length === 0
    ? []
    : [{ kind: "SetTriggers", id, ...table, create, drop }];
}

function unwanted(table: TableName): TriggeredTable {
  const nothing = { about: "", rule: "", when: {}, settingsMatter: false, replicated: false };
  return { table, root: table, level: "Statement", writtenAgain: false, ...nothing };
}

function followSchemaChanges(mode: SchemaChangeMode, { installation, eventTriggers }: ObservedCatalog) {
  const fromMode = installation?.schemaChangeMode ?? null;
  const create = mode === "EventTrigger" && !hasAllEventTriggers(eventTriggers);
  const drop = eventTriggers
    .filter(({ current }) => create || mode !== "EventTrigger" || !current)
    .map(({ name }) => name);
  if (!create && drop.length === 0 && fromMode === mode) return [];
  return [{ kind: "FollowSchemaChanges" as const, id: "schema-changes", mode, fromMode, drop, create }];
}

function isRecorded(desired: DesiredCapture, installation: ObservedCatalog["installation"]): boolean {
  if (installation === null) return false;
  if (desired.workerRole !== null) return installation.specHash === desired.specHash; // nobody runs SQL only for a version
  const epoch = desired.epoch === null || Number(installation.epoch) === desired.epoch;
  return epoch && installation.specHash === desired.specHash && installation.version === desired.version;
}
