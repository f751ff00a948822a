/** What commands about events take: times, names of tables, ids of events. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { PgEventsError } from "../core/errors.ts";

export const OUTPUTS = ["table", "json"] as const;
export type Output = (typeof OUTPUTS)[number];

export function outputOption(): Option {
  return new Option("-o, --output <format>", "how it is printed").choices(OUTPUTS).default("table");
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** `30s`, `15m`, `2h` or `3d` ago, or a time with its zone. @returns RFC 3339 */
export function parseTime(text: string): string {
  const ago = /^(\d{1,6})([smhd])$/.exec(text);
  if (ago !== null) {
    const seconds = Number(ago[1]) * SECONDS[ago[2] as keyof typeof SECONDS];
    return new Date(Date.now() - seconds * 1000).toISOString();
  }
  if (/^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})$/i.test(text)) {
    if (!Number.isNaN(Date.parse(text))) return text;
  }
  throw new InvalidArgumentError(
    "Use a time with its zone, like 2026-11-24T14:06:00Z, or 30s, 15m, 2h, 3d ago.",
  );
}

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

const NAME = `"(?:[^"]|"")+"|[^".]+`;
const TABLE = new RegExp(`^(${NAME})\\.(${NAME})$`);

/** `schema.table`, or `schema.*`; names with a dot, or with quotes, in double quotes as in SQL. */
export function parseTable(text: string): TableName {
  const parts = TABLE.exec(text);
  if (parts === null)
    throw new InvalidArgumentError("Use schema.table, or schema.* for every table of the schema.");
  const [schema, name] = parts.slice(1).map(unquoted) as [string, string];
  return { schema, name };
}

/** For an option that may be given several times. */
export function collectTables(text: string, before: readonly TableName[] | undefined): TableName[] {
  return [...(before ?? []), parseTable(text)];
}

function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}

const MAX_ID = 9_223_372_036_854_775_807n;

/**
 * The number of an event: as it is, as its attribute `sequence`, or as its CloudEvents id.
 * @param installationId what CloudEvents ids of this database begin with
 * @throws PgEventsError PGE_FLAG_INVALID
 */
export function eventNumber(text: string, installationId: string): string {
  const ofOther = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d+-(\d{1,20})$/i.exec(text);
  if (ofOther !== null && ofOther[1]?.toLowerCase() !== installationId)
    throw new PgEventsError("PGE_FLAG_INVALID", `${text} is an event of another database.`);
  const digits = ofOther?.[2] ?? (/^\d{1,20}$/.test(text) ? text : null);
  if (digits === null || BigInt(digits) > MAX_ID)
    throw new PgEventsError("PGE_FLAG_INVALID", `${text} is no id of an event.`, {
      remedy:
        "Use the number that `pg-events dead-letters list` shows, the attribute sequence, or the CloudEvents id.",
    });
  return String(BigInt(digits));
}

/** Ends with a message and exit code 2, like a flag that commander refuses. */
export function refuseFlags(command: Command, problem: string): never {
  command.error(`error: ${problem}`);
}
