import { createInterface } from "node:readline/promises";
import { Command } from "commander";
import { structuredBody } from "../core/delivery/cloudevents.ts";
import { PgEventsError } from "../core/errors.ts";
import { createPool } from "../postgres/connect.ts";
import {
  countDeadLetters,
  type DeadLetterFilter,
  type DeadLetterLine,
  discardDeadLetters,
  listDeadLetters,
  redeliverDeadLetters,
} from "../postgres/dead-letters.ts";
import { OutboxReader } from "../postgres/outbox.ts";
import {
  eventNumber,
  type Output,
  outputOption,
  parseTable,
  parseTime,
  refuseFlags,
  type TableName,
} from "./arguments.ts";
import { type CapturedDatabase, print, tableText, withCapturedDatabase } from "./database-command.ts";
import { type InputFlags, withDatabaseOptions } from "./inputs.ts";

interface FilterFlags extends InputFlags {
  readonly callback?: string;
  readonly table?: TableName;
  readonly error?: string;
  readonly since?: string;
  readonly until?: string;
}

interface ListFlags extends FilterFlags {
  readonly limit: string;
  readonly page?: string;
  readonly output: Output;
}

interface ActFlags extends FilterFlags {
  readonly all?: true;
  readonly yes?: true;
  readonly output: Output;
}

export function deadLettersCommand(): Command {
  return new Command("dead-letters")
    .description("Look at events that a callback did not take, and deliver them again or discard them.")
    .addCommand(
      withFilterOptions(new Command("list"))
        .description("List dead letters, the newest first, without the rows they hold.")
        .option("--limit <number>", "how many at most, up to 1000", "50")
        .option("--page <token>", "go on where the page before ended")
        .addOption(outputOption())
        .action(list),
    )
    .addCommand(
      withFilterOptions(new Command("show").argument("<id>", "number, sequence or CloudEvents id"))
        .description("Print one, with the event as it would be sent.")
        .addOption(outputOption())
        .action(show),
    )
    .addCommand(
      withFilterOptions(new Command("redeliver").argument("[id...]", "numbers, sequences or CloudEvents ids"))
        .description("Deliver them to their callback again, marked with pgeventsreplay; the workers do it.")
        .option("--all", "all that the other options choose")
        .addOption(outputOption())
        .action(redeliver),
    )
    .addCommand(
      withFilterOptions(new Command("discard").argument("[id...]", "numbers, sequences or CloudEvents ids"))
        .description("Delete them for good.")
        .option("--all", "all that the other options choose")
        .option("--yes", "do not ask")
        .addOption(outputOption())
        .action(discard),
    );
}

function withFilterOptions(command: Command): Command {
  return withDatabaseOptions(command)
    .option("--callback <name>", "only those of this callback, also one that the manifest has no more")
    .option("--table <schema.name>", "only those of this table; schema.* for a schema", parseTable)
    .option("--error <text>", "only those with this text in the error")
    .option("--since <time>", "only those that became dead letters since then (a time, or 2h ago)", parseTime)
    .option("--until <time>", "only those that did before", parseTime);
}

function list(flags: ListFlags, command: Command): Promise<void> {
  const limit = Number(flags.limit);
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000)
    refuseFlags(command, "option '--limit' must be a whole number from 1 to 1000");
  const after = flags.page === undefined ? null : pageStart(flags.page);
  return withCapturedDatabase(flags, command, async ({ client, names }) => {
    const filter = filterOf(flags, null);
    const found = await listDeadLetters(client, names, filter, { limit: limit + 1, after });
    const lines = found.slice(0, limit);
    const next = found.length > limit ? pageToken(lines.at(-1) as DeadLetterLine) : null;
    if (flags.output === "json") return print(JSON.stringify({ deadLetters: lines, next }));
    if (lines.length === 0) return print("No dead letters.");
    print(
      tableText(
        ["ID", "CALLBACK", "OPERATION", "TABLE", "KEY", "ATTEMPTS", "FAILED AT", "ERROR"],
        lines.map((line) => [
          line.id,
          line.letterOf === null ? line.callback : `${line.callback} (of ${line.letterOf})`,
          line.operation,
          `${line.schema}.${line.table}`,
          line.key ?? "-",
          String(line.attempts),
          line.failedAt.replace(/\.\d+Z$/, "Z"),
          line.error,
        ]),
      ),
    );
    if (next !== null) process.stderr.write(`There are more: --page ${next}\n`);
  });
}

function show(id: string, flags: FilterFlags & { readonly output: Output }, command: Command): Promise<void> {
  return withCapturedDatabase(flags, command, async ({ client, names, origin, settings }) => {
    const number = eventNumber(id, origin.installationId);
    const lines = await listDeadLetters(client, names, filterOf(flags, [number]), {
      limit: 100,
      after: null,
    });
    if (lines.length === 0) throw notFound(`There is no dead letter ${id}.`);
    const pool = createPool(settings, "status", 1);
    try {
      const reader = new OutboxReader(pool, names);
      for (const line of lines) {
        const events = await reader.readDeadLetters(line.callback, [number]);
        const event = events.find(({ resent }) => (resent?.letter?.callback ?? null) === line.letterOf);
        if (event === undefined) continue; // it was seen to just now
        const body = structuredBody(origin, {
          ...event,
          resent: { replay: 0, letter: event.resent?.letter ?? null },
        });
        // The rows stay the text that PostgreSQL wrote: no number loses a digit.
        if (flags.output === "json") print(`${JSON.stringify(line).slice(0, -1)},"event":${body}}`);
        else print(`${describe(line)}\n${body}`);
      }
    } finally {
      await pool.end();
    }
  });
}

function describe({ callback, letterOf, attempts, error, failedAt }: DeadLetterLine): string {
  const of = letterOf === null ? "" : `, a dead letter of ${letterOf}`;
  return `Callback ${callback}${of}: ${attempts} ${attempts === 1 ? "attempt" : "attempts"}, the last one at ${failedAt}: ${error}`;
}

function redeliver(ids: string[], flags: ActFlags, command: Command): Promise<void> {
  checkChoice(ids, flags, command);
  return withCapturedDatabase(flags, command, async (database) => {
    const { client, names } = database;
    const redelivered = await redeliverDeadLetters(client, names, chosen(ids, flags, database));
    if (redelivered === 0 && ids.length > 0) throw notFound("There is no such dead letter.");
    if (flags.output === "json") return print(JSON.stringify({ redelivered }));
    print(`${count(redelivered)} will be delivered again.`);
    const suspended = database.source.spec.callbacks.filter(
      ({ name, suspend }) => suspend && (flags.callback ?? name) === name,
    );
    if (database.source.spec.suspend || suspended.length > 0)
      process.stderr.write("note: what is suspended gets them when it goes on.\n");
  });
}

function discard(ids: string[], flags: ActFlags, command: Command): Promise<void> {
  checkChoice(ids, flags, command);
  return withCapturedDatabase(flags, command, async (database) => {
    const { client, names } = database;
    const filter = chosen(ids, flags, database);
    const found = await countDeadLetters(client, names, filter);
    if (found === 0 && ids.length > 0) throw notFound("There is no such dead letter.");
    if (found > 0 && flags.yes !== true && !(await confirmed(found))) {
      process.stderr.write("Nothing was discarded.\n");
      process.exitCode = 1;
      return;
    }
    const discarded = await discardDeadLetters(client, names, filter);
    print(flags.output === "json" ? JSON.stringify({ discarded }) : `${count(discarded)} discarded.`);
  });
}

async function confirmed(found: number): Promise<boolean> {
  if (!process.stdin.isTTY)
    throw new PgEventsError(
      "PGE_FLAG_INVALID",
      `${count(found)} would be discarded, and nobody can be asked.`,
      {
        remedy: "Add --yes.",
      },
    );
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`Discard ${count(found)} for good? [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

function checkChoice(ids: readonly string[], { all }: ActFlags, command: Command): void {
  if (ids.length === 0 && all !== true) refuseFlags(command, "give ids, or '--all'");
  if (ids.length > 0 && all === true) refuseFlags(command, "give either ids or '--all'");
}

function chosen(ids: readonly string[], flags: ActFlags, { origin }: CapturedDatabase): DeadLetterFilter {
  return filterOf(flags, ids.length === 0 ? null : ids.map((id) => eventNumber(id, origin.installationId)));
}

function filterOf(
  { callback, table, error, since, until }: FilterFlags,
  ids: string[] | null,
): DeadLetterFilter {
  return {
    callback: callback ?? null,
    ids,
    table: table ?? null,
    error: error ?? null,
    since: since ?? null,
    until: until ?? null,
  };
}

function pageToken({ failedAt, callback, id, letterOf }: DeadLetterLine): string {
  return Buffer.from(JSON.stringify([failedAt, callback, id, letterOf])).toString("base64url");
}

function pageStart(token: string): DeadLetterLine {
  try {
    const [failedAt, callback, id, letterOf] = JSON.parse(
      Buffer.from(token, "base64url").toString(),
    ) as string[];
    if (typeof failedAt === "string" && typeof callback === "string" && /^\d{1,19}$/.test(id ?? ""))
      return { failedAt, callback, id, letterOf } as DeadLetterLine;
  } catch {
    // as below
  }
  throw new PgEventsError("PGE_FLAG_INVALID", "--page: this is no token of a page.");
}

function notFound(message: string): PgEventsError {
  return new PgEventsError("PGE_NOT_FOUND", message, {
    remedy: "`pg-events dead-letters list` shows what there is.",
  });
}

function count(number: number): string {
  return `${number} dead ${number === 1 ? "letter" : "letters"}`;
}
