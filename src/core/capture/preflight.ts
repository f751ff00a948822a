/**
 * Findings from what a look at the database saw, before anything is done: each with what, where and what to
 * do about it. Pure. What only an attempt can show (a lock that is not free) `apply.ts` adds.
 */
import type { CaptureSpec } from "../api/capture.ts";
import { encodingFinding } from "./encoding.ts";
import { dropEventTrigger } from "./event-triggers.ts";
import { type Finding, finding } from "./findings.ts";
import type { ObservedCatalog, ObservedRelation, SchemaChangeMode } from "./model.ts";
import { tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { entryFor } from "./plan.ts";
import { ident, qualified } from "./quote.ts";

export interface PreflightInput {
  readonly catalog: ObservedCatalog;
  readonly capture: CaptureSpec;
  readonly names: CaptureNames;
  readonly owner: string;
  readonly epoch: number | null;
  /** The role in SQL to paste; a placeholder where its name, which comes from a Secret, may not be shown. */
  readonly role: string;
  /** The captured relations, partitions left out. */
  readonly captured: readonly ObservedRelation[];
  readonly mode: SchemaChangeMode;
  /** Versions of the files of sql/, and the names of the tables and sequences that each makes. */
  readonly migrations: ReadonlyMap<number, readonly string[]>;
  /** Process that the server named at the login; null when unknown. */
  readonly sessionPid: number | null;
}

/** Columns of the outbox, as sql/ makes it. */
export const OUTBOX_COLUMNS = [
  "id",
  "xid",
  "at",
  "segment",
  "operation",
  "schema_name",
  "table_name",
  "about",
  "old",
  "new",
  "role",
  "application",
  "context",
  "ids",
  "old_columns",
  "new_columns",
];

/** Connections of a worker (pool, wake-ups, a build) and of an operator that builds. */
const CONNECTIONS = { worker: 8, operator: 2 };
/** Milliseconds: what reading a large backlog may take. */
const STATEMENT_MS = 30_000;
/** Milliseconds: longer than any pause of a worker that has something to do. */
const IDLE_SESSION_MS = 600_000;
/** Tables above which a look at all of them, every few seconds, is felt. */
const MANY_TABLES = 5000;
/** Tables named one by one in a finding about many. */
const NAMED_TABLES = 5;

/** What speaks against any build, the first thing to be put right first. */
export function obstacles(input: PreflightInput): Finding[] {
  const { catalog, names, capture, owner, epoch, role, migrations } = input;
  const { installation, schema, server, ancestor } = catalog;
  const where = `schema ${names.schemaName}`;
  const found: Finding[] = [];
  if (catalog.readOnly) {
    found.push(
      server.inRecovery
        ? finding("DatabaseReadOnly", "server", "The server is a replica.", "Connect to the primary.")
        : finding(
            "DatabaseReadOnly",
            "server",
            "Transactions are read-only by a setting.",
            `alter role ${role} set default_transaction_read_only = off; or for the database, or the server.`,
          ),
    );
  }
  if (schema.owner !== null && !schema.usable) {
    const remedy = schema.owned
      ? `grant all on all tables in schema ${names.schema} to ${ident(schema.owner)};`
      : capture.install === "Manual"
        ? `As the role that owns it: pg-events build --dry-run --worker-role <role> prints the grants for ${role}.`
        : `grant ${ident(schema.owner)} to ${role};`;
    found.push(
      finding(
        "CaptureNotReadable",
        where,
        `Schema ${names.schemaName} belongs to role ${ident(schema.owner)}, and may not be read.`,
        remedy,
      ),
    );
    return found;
  }
  if (installation === null) {
    if (schema.damagedOwner !== null) found.push(damaged("it is not whole", names));
    else if (schema.relations.length + schema.functions > 0) {
      const message = `Schema ${names.schemaName} holds something that is not, or not a whole, capture.`;
      const remedy = `Choose another spec.capture.schemaName, or: drop schema ${names.schema} cascade;`;
      found.push(finding("SchemaInUse", where, message, remedy));
    } else if (capture.install === "Managed") found.push(...schemaRights(input));
    if (ancestor.eventTriggers.length > 0) found.push(besideAncestor(ancestor.eventTriggers));
    return found;
  }
  if (installation.owner !== owner) {
    const message = `Schema ${names.schemaName} of this database belongs to ${installation.owner}, not to ${owner}.`;
    const remedy = "Give this source a spec.capture.schemaName of its own, or remove the other one first.";
    found.push(finding("OwnershipConflict", where, message, remedy));
    return found;
  }
  if (epoch !== null && epoch < Number(installation.epoch))
    found.push(finding("StaleBuilder", where, "A newer operator has built since; this one must not."));
  const made = installation.migrations.flatMap((version) => migrations.get(version) ?? []);
  const gone = [
    ...made.filter((name) => !schema.relations.includes(name)),
    ...OUTBOX_COLUMNS.filter((name) => !schema.outboxColumns.includes(name)).map((name) => `outbox.${name}`),
  ];
  if (gone.length > 0) found.push(damaged(`${gone.join(", ")} is gone`, names));
  const complete = [...migrations.keys()].every((version) => installation.migrations.includes(version));
  if (!complete && ancestor.eventTriggers.length > 0) found.push(besideAncestor(ancestor.eventTriggers));
  return found;
}

/** What a builder that is not the owner of capture may not do; only asked when there is something to do. */
export function ownerObstacle({ catalog: { installation, schema }, names, role }: PreflightInput): Finding[] {
  if (installation === null || schema.owned || schema.owner === null) return [];
  const message = `Capture in schema ${names.schemaName} belongs, wholly or in part, to another role; its owner is ${ident(schema.owner)}.`;
  return [
    finding(
      "SchemaNotAllowed",
      `schema ${names.schemaName}`,
      message,
      `grant ${ident(schema.owner)} to ${role};`,
    ),
  ];
}

function schemaRights({ catalog: { schema, server }, names, role }: PreflightInput): Finding[] {
  if (schema.owner === null && !server.mayCreateSchema) {
    const message = "The role may not create a schema in this database.";
    const remedy = `grant create on database ${ident(server.database)} to ${role};`;
    return [finding("SchemaNotAllowed", "role", message, remedy)];
  }
  if (schema.owner === null || schema.owned) return [];
  const message = `The empty schema ${names.schemaName} belongs to another role.`;
  const remedy = `alter schema ${names.schema} owner to ${role};`;
  return [finding("SchemaNotAllowed", `schema ${names.schemaName}`, message, remedy)];
}

function damaged(what: string, { schemaName, schema }: CaptureNames): Finding {
  const remedy = `Bring it back from a backup; or give up what was not delivered yet: drop schema ${schema} cascade; and build again.`;
  return finding("CaptureDamaged", `schema ${schemaName}`, `Schema ${schemaName}: ${what}.`, remedy);
}

function besideAncestor(eventTriggers: readonly string[]): Finding {
  const message = `The event triggers of the Python package pg_events (${eventTriggers.join(", ")}) are in this database, and no table can be made beside them.`;
  const remedy = `Drop them first, as docs/migrating-from-pg-events.md says: ${eventTriggers.map(dropEventTrigger).join("; ")};`;
  return finding("AncestorPresent", "event triggers", message, remedy);
}

/** What should be known, and does not keep anything from being built. */
export function remarks(input: PreflightInput): Finding[] {
  return [...ofServer(input), ...ofSchemaChanges(input), ...ofTables(input)];
}

function ofServer({ catalog, capture, names, role, sessionPid, captured }: PreflightInput): Finding[] {
  const { server, ancestor, schema, installation } = catalog;
  const { settings, freeConnections } = server;
  const number = (name: string) => Number(settings[name] ?? 0);
  const found: Finding[] = [];
  if (sessionPid !== null && sessionPid !== server.backendPid) {
    const message =
      "A connection pooler, or something like it, stands between. In session mode everything works; in transaction mode events wait up to half a second, because the worker has to look for them.";
    const remedy = "Let the Secret or URL name the server itself, or a pool in session mode.";
    found.push(finding("Pooler", "server", message, remedy));
  }
  const needed = CONNECTIONS.worker + CONNECTIONS.operator;
  if (freeConnections < needed) {
    const message = `The role can make ${Math.max(0, freeConnections)} more connections; a worker uses up to ${CONNECTIONS.worker}, and an operator that builds ${CONNECTIONS.operator}.`;
    const remedy = `Raise what is lowest: max_connections of the server, or: alter role ${role} connection limit -1; alter database ${ident(server.database)} connection limit -1;`;
    found.push(finding("FewConnections", "server", message, remedy));
  }
  const statementMs = number("statement_timeout");
  if (statementMs > 0 && statementMs < STATEMENT_MS) {
    const message = `statement_timeout of the role is ${statementMs} ms; reading a large backlog may take longer. (Builds set their own.)`;
    found.push(
      finding("StatementTimeout", "role", message, resetSetting("statement_timeout", role, server.database)),
    );
  }
  const idleMs = number("idle_session_timeout");
  if (idleMs > 0 && idleMs < IDLE_SESSION_MS) {
    const message = `idle_session_timeout of the role is ${idleMs} ms; a worker that waits for events keeps an idle session.`;
    found.push(
      finding("IdleTimeout", "role", message, resetSetting("idle_session_timeout", role, server.database)),
    );
  }
  found.push(...encodingFinding(settings.server_encoding));
  const extra = schema.outboxColumns.filter((name) => !OUTBOX_COLUMNS.includes(name));
  if (installation !== null && extra.length > 0) {
    const message = `The outbox has columns that pg-events did not make: ${extra.join(", ")}. One that is NOT NULL makes writes fail.`;
    const remedy = extra
      .map((name) => `alter table ${names.schema}.outbox drop column ${ident(name)};`)
      .join(" ");
    found.push(finding("OutboxChanged", `${names.schemaName}.outbox`, message, remedy));
  }
  if (ancestor.tables > 0) {
    const message = `The triggers of the Python package pg_events are still on tables (${ancestor.tables}), and slow every write.`;
    const remedy = "docs/migrating-from-pg-events.md says how to remove them.";
    found.push(finding("AncestorTriggers", "tables", message, remedy));
  }
  if (number("max_prepared_transactions") > 0) {
    const message =
      "Two-phase commit is possible (max_prepared_transactions is above 0). A transaction that sent a wake-up could not be prepared, so none is sent: the worker looks at least every half second.";
    found.push(finding("TwoPhaseCommit", "server", message));
  }
  const { settings: kept = [], traceparent } = capture.context;
  const known = [...kept, ...(traceparent === undefined ? [] : [traceparent])].filter(
    (name) => name in settings,
  );
  for (const name of known) {
    const message = `spec.capture.context names ${name}, which belongs to the server or an extension.`;
    found.push(finding("SettingOfExtension", "spec.capture.context", message));
  }
  if (captured.length > MANY_TABLES) {
    const message = `${captured.length} tables are captured; each look at them takes a while, and the worker looks whenever one changes.`;
    const remedy = "Name what you need in spec.capture.tables, or leave schemas out.";
    found.push(finding("ManyTables", "tables", message, remedy));
  }
  return found;
}

function resetSetting(name: string, role: string, database: string): string {
  return `alter role ${role} in database ${ident(database)} set ${name} = 0;`;
}

function ofSchemaChanges({ capture, mode }: PreflightInput): Finding[] {
  if (capture.schemaChanges !== "Auto" || mode !== "Poll") return [];
  const message =
    "The role may not make event triggers: changes of tables are noticed within seconds, and rows of a new table are captured from then on.";
  const remedy =
    "To be told at once, build once with a superuser's database URL (the event triggers stay in use); or set spec.capture.schemaChanges to Poll.";
  return [finding("SchemaChangesByPolling", "event triggers", message, remedy)];
}

function ofTables({ captured, capture }: PreflightInput): Finding[] {
  const found: Finding[] = [];
  const told = (
    code: "NoKey" | "Unlogged" | "RowSecurity",
    relations: readonly ObservedRelation[],
    text: string,
    remedy: string | null = null,
  ) => {
    if (relations.length === 0) return;
    found.push(finding(code, "tables", `${listed(relations)}: ${text}`, remedy));
  };
  const withoutKey = captured.filter(
    (relation) => relation.key.length === 0 && keyOfSpec(capture, relation) === undefined,
  );
  const example = withoutKey[0];
  told(
    "NoKey",
    withoutKey,
    "no primary key, so the events of each are ordered for the table as a whole and carry no key.",
    example === undefined
      ? null
      : `alter table ${qualified(example.schema, example.name)} add primary key (…);`,
  );
  told(
    "Unlogged",
    captured.filter(({ facts }) => facts.unlogged),
    "unlogged; when the server crashes it empties them, and no event tells of that.",
  );
  told(
    "RowSecurity",
    captured.filter(({ facts }) => facts.rowSecurity),
    "row-level security does not apply to events; they hold the rows of everybody.",
  );
  const replicated = captured.filter(({ facts }) => facts.subscribed);
  if (replicated.length > 0 && !capture.replicated) {
    const message = `${listed(replicated)}: a subscription of logical replication writes to them, and what it writes is not captured.`;
    found.push(finding("ReplicatedTable", "tables", message, "spec.capture.replicated: true"));
  }
  return found;
}

function keyOfSpec({ tables = [] }: CaptureSpec, relation: ObservedRelation): readonly string[] | undefined {
  return entryFor(tables, relation)?.key;
}

function listed(relations: readonly ObservedRelation[]): string {
  const names = relations.slice(0, NAMED_TABLES).map(tableText);
  const more = relations.length - names.length;
  return more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
}
