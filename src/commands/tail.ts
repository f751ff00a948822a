import { once } from "node:events";
import { Command, Option } from "commander";
import type { Pool } from "pg";
import type { CallbackSpec } from "../core/api/callback.ts";
import { OPERATIONS, type Operation } from "../core/api/capture.ts";
import type { CaptureNames } from "../core/capture/names.ts";
import { structuredBody } from "../core/delivery/cloudevents.ts";
import { prepareExpression } from "../core/delivery/expression.ts";
import { type EventFilter, eventFilter } from "../core/delivery/filter.ts";
import type { Position } from "../core/delivery/position.ts";
import { PgEventsError } from "../core/errors.ts";
import type { ChangeEvent } from "../core/event.ts";
import { createPool, databaseError } from "../postgres/connect.ts";
import { OutboxReader } from "../postgres/outbox.ts";
import { shutdownSignal } from "../runtime/shutdown.ts";
import { OutboxCursor } from "../worker/outbox-cursor.ts";
import { pause } from "../worker/pause.ts";
import { collectTables, parseTime, refuseFlags, type TableName } from "./arguments.ts";
import { callbackNamed, withCapturedDatabase } from "./database-command.ts";
import { type InputFlags, withDatabaseOptions } from "./inputs.ts";

/** Milliseconds between looks when nothing is new. */
const LOOK_MS = 250;

interface TailFlags extends InputFlags {
  readonly since?: string;
  readonly callback?: string;
  readonly table?: TableName[];
  readonly operation?: Operation[];
  readonly expression?: string;
  readonly count?: string;
}

export function tailCommand(): Command {
  return withDatabaseOptions(new Command("tail"))
    .description(
      "Print events as they are committed, a line of JSON each, until Ctrl-C. No callback waits for it, and nothing is kept for it.",
    )
    .option("--since <time>", "begin with events written since then that are still there", parseTime)
    .addOption(
      new Option("--callback <name>", "only what this callback's filter lets through").conflicts([
        "table",
        "operation",
        "expression",
      ]),
    )
    .option("--table <schema.name>", "only this table, or schema.*; may be given again", collectTables)
    .addOption(new Option("--operation <operation...>", "only these operations").choices(OPERATIONS))
    .option("--expression <cel>", "only rows for which it is true, as in filter.expression")
    .option("--count <number>", "end after so many events")
    .action(run);
}

async function run(flags: TailFlags, command: Command): Promise<void> {
  const limit = flags.count === undefined ? Number.POSITIVE_INFINITY : Number(flags.count);
  if (!(limit > 0) || (flags.count !== undefined && !/^\d{1,9}$/.test(flags.count)))
    refuseFlags(command, "option '--count' must be a whole number from 1");
  const problem = flags.expression === undefined ? null : await prepareExpression(flags.expression);
  if (problem !== null) throw new PgEventsError("PGE_FLAG_INVALID", `--expression: ${problem}`);
  const signal = shutdownSignal();
  await withCapturedDatabase(flags, command, async ({ source, settings, names, origin }) => {
    const filter = flags.callback === undefined ? null : callbackNamed(source, flags.callback);
    const pool = createPool(settings, "status", 2);
    try {
      const start = await startOf(pool, names, flags.since ?? null);
      const wanted = eventFilter(filter ?? flagFilter(flags), () => undefined);
      let left = limit;
      for await (const event of events(pool, names, start, wanted, signal)) {
        if (flags.since !== undefined && Date.parse(event.time) < Date.parse(flags.since)) continue;
        if (!process.stdout.write(`${structuredBody(origin, event)}\n`)) await once(process.stdout, "drain");
        left -= 1;
        if (left === 0) break;
      }
    } catch (error) {
      throw error instanceof PgEventsError ? error : databaseError(error, settings);
    } finally {
      await pool.end();
    }
  });
}

function flagFilter({ table, operation, expression }: TailFlags): Pick<CallbackSpec, "filter" | "module"> {
  const onlyRows = operation !== undefined || expression !== undefined;
  return {
    module: undefined,
    filter: {
      deadLetters: "Include",
      tables: table,
      operations: operation,
      expression,
      schemaChanges: onlyRows ? "Exclude" : "Include",
    },
  };
}

/** Where to begin: now, or before the first event that is there and was written since. */
async function startOf(pool: Pool, { schema }: CaptureNames, since: string | null): Promise<Position> {
  const { rows } = await pool.query<{ now: string; before: string | null }>({
    text: `select pg_current_snapshot()::text as now,
      case when $1::timestamptz is not null then (select min(id) - 1 from ${schema}.logged(false) where at >= $1)::text end as before`,
    values: [since],
  });
  const { now = "", before = null } = rows[0] ?? {};
  return before === null
    ? { seen: now, ahead: null, aheadId: null }
    : { seen: "3:3:", ahead: now, aheadId: before };
}

/** Reads as a relay does, from window to window, so that nothing is missed that is there when it is read. */
async function* events(
  pool: Pool,
  names: CaptureNames,
  start: Position,
  { wants, wantsRow }: EventFilter,
  signal: AbortSignal,
): AsyncGenerator<ChangeEvent> {
  const reader = new OutboxReader(pool, names);
  const cursor = new OutboxCursor(reader, start);
  while (!signal.aborted) {
    const read = await cursor.read();
    for (const { event, deferred } of read?.rows ?? []) {
      if (signal.aborted) return;
      if (!wants(event)) continue;
      const whole = deferred ? await reader.readImages(event) : event;
      if (whole !== undefined && (wantsRow === null || wantsRow(whole))) yield whole;
    }
    if (read === null || (read.rows.length === 0 && read.complete)) await pause(LOOK_MS, signal);
  }
}
