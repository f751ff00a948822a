/** The transactions of a build: which actions go together, and the text that runs them. Pure. */
import { type SqlSources, statementsFor } from "./ddl.ts";
import type { CaptureAction } from "./diff.ts";
import { tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";

export const EVENT_TRIGGERS = "event triggers";

export interface BuildTransaction {
  readonly actions: readonly CaptureAction[];
  /** What fails by itself, without stopping the build: a table, or the event triggers; null: the rest needs it. */
  readonly part: string | null;
  readonly statements: readonly string[];
}

export interface Timeouts {
  readonly lockTimeoutSeconds: number;
  readonly statementTimeoutSeconds: number;
}

/** The first version with `transaction_timeout`. */
const TRANSACTION_TIMEOUT_MAJOR = 17;

/** The schema with all that is in it is made at once or not at all; each table by itself. */
export function transactionsFor(
  actions: readonly CaptureAction[],
  names: CaptureNames,
  sources: SqlSources,
): BuildTransaction[] {
  const transaction = (some: readonly CaptureAction[], part: string | null): BuildTransaction => ({
    actions: some,
    part,
    statements: some.flatMap((action) => statementsFor(action, names, sources)),
  });
  const setup = actions.filter(({ kind }) => SETUP.includes(kind));
  const rest = actions.filter(({ kind }) => !SETUP.includes(kind));
  return [
    ...(setup.length === 0 ? [] : [transaction(setup, null)]),
    ...rest.map((action) => transaction([action], partOf(action))),
  ];
}

/** Actions that the schema, its functions and its rights are made by. */
export const SETUP: readonly CaptureAction["kind"][] = [
  "InstallSchema",
  "Migrate",
  "ReplaceFunctions",
  "RestoreOwnership",
  "GrantWorker",
];

function partOf(action: CaptureAction): string | null {
  if (action.kind === "SetTriggers") return tableText(action.table);
  return action.kind === "FollowSchemaChanges" ? EVENT_TRIGGERS : null;
}

/**
 * The whole transaction as one text, for one round trip or for psql: with a search path on which no function
 * or operator of a user is, and with time limits of its own instead of the role's.
 * @param serverVersion null: unknown
 */
export function transactionText(
  statements: readonly string[],
  { lockTimeoutSeconds, statementTimeoutSeconds }: Timeouts,
  serverVersion: string | null,
): string {
  const settings = [
    "set local search_path = pg_catalog",
    "set local pgevents.build = on", // for our event triggers: nobody changes a table here
    `set local lock_timeout = '${lockTimeoutSeconds}s'`,
    `set local statement_timeout = '${statementTimeoutSeconds}s'`,
    ...(Number.parseInt(serverVersion ?? "", 10) >= TRANSACTION_TIMEOUT_MAJOR
      ? ["set local transaction_timeout = 0"]
      : []),
  ];
  return `begin; ${settings.join("; ")};\n${statements.join(";\n")};\ncommit;`;
}
