import { Command, Option } from "commander";
import type { CallbackSpec } from "../core/api/callback.ts";
import { wantedEvents } from "../core/delivery/filter.ts";
import { PgEventsError } from "../core/errors.ts";
import {
  cancelReplay,
  listReplays,
  type Replay,
  type ReplayPlan,
  type ReplayRequest,
  requestReplay,
} from "../postgres/replay.ts";
import {
  collectTables,
  eventNumber,
  type Output,
  outputOption,
  parseTime,
  refuseFlags,
  type TableName,
} from "./arguments.ts";
import { callbackNamed, print, tableText, withCapturedDatabase } from "./database-command.ts";
import { type InputFlags, withDatabaseOptions } from "./inputs.ts";

interface ReplayFlags extends InputFlags {
  readonly callback?: string;
  readonly since?: string;
  readonly fromId?: string;
  readonly fromPosition?: string;
  readonly until?: string;
  readonly untilId?: string;
  readonly table?: readonly TableName[];
  readonly available?: true;
  readonly dryRun?: true;
  readonly output: Output;
}

interface ListFlags extends InputFlags {
  readonly callback?: string;
  readonly output: Output;
}

export function replayCommand(): Command {
  const command = new Command("replay")
    .description(
      "Deliver events that a callback had to it once more, marked with pgeventsreplay; the workers do it. Its own events go on meanwhile.",
    )
    .enablePositionalOptions();
  const start = withDatabaseOptions(new Command("start"))
    .description("Ask for a replay; of several for one callback the first goes first.")
    .requiredOption("--callback <name>", "who gets them")
    .addOption(
      new Option("--since <time>", "events written since then (a time, or 2h ago)")
        .argParser(parseTime)
        .conflicts(["fromId", "fromPosition"]),
    )
    .addOption(
      new Option("--from-id <id>", "events from this one on: number, sequence or CloudEvents id").conflicts(
        "fromPosition",
      ),
    )
    .option(
      "--from-position <position>",
      "what was new after this position, as `pg-events status` has shown it",
    )
    .option("--until <time>", "events written before", parseTime)
    .option("--until-id <id>", "events up to this one")
    .option("--table <schema.name>", "only this table, or schema.*; may be given again", collectTables)
    .option("--available", "take what is there when a part of it is gone from the outbox")
    .option("--dry-run", "count, and change nothing")
    .addOption(outputOption())
    .action(run);
  return command
    .addCommand(start, { isDefault: true })
    .addCommand(
      withDatabaseOptions(new Command("list"))
        .description("List replays, the newest first.")
        .option("--callback <name>", "only those of this callback")
        .addOption(outputOption())
        .action(list),
    )
    .addCommand(
      withDatabaseOptions(new Command("cancel").argument("<number>", "as `replay list` shows it"))
        .description("End a replay; up to 1,000 events that a worker holds are still delivered.")
        .action(cancel),
    );
}

function run(flags: ReplayFlags, command: Command): Promise<void> {
  const { callback = "", since, fromId, fromPosition } = flags;
  if (since === undefined && fromId === undefined && fromPosition === undefined)
    refuseFlags(command, "one of '--since', '--from-id' and '--from-position' is needed");
  return withCapturedDatabase(flags, command, async ({ client, names, source, installation }) => {
    const spec = callbackNamed(source, callback);
    const request: ReplayRequest = {
      callback,
      from:
        since !== undefined
          ? { kind: "Time", since }
          : fromId !== undefined
            ? { kind: "Id", id: eventNumber(fromId, installation.id) }
            : { kind: "Position", snapshot: fromPosition ?? "" },
      until: flags.until ?? null,
      untilId: flags.untilId === undefined ? null : eventNumber(flags.untilId, installation.id),
      tables: flags.table ?? null,
      available: flags.available === true,
    };
    const mode = flags.dryRun ? "plan" : "apply";
    const plan = await requestReplay(client, names, request, wantedEvents(spec), mode);
    if (flags.output === "json") return print(JSON.stringify(plan));
    describe(plan, spec, flags.dryRun === true);
  });
}

function describe(plan: ReplayPlan, { name, filter, suspend }: CallbackSpec, dryRun: boolean): void {
  const { id, events, exact, retainedSince } = plan;
  const note = (text: string) => process.stderr.write(`note: ${text}\n`);
  if (plan.gone) note(`events from before ${retainedSince} may be gone from the outbox.`);
  const what = `${exact ? "" : "more than "}${events} ${events === 1 ? "event" : "events"}`;
  if (events === 0) {
    print(`Nothing to replay: ${name} had no such event.`);
    return;
  }
  if (filter?.expression !== undefined)
    note("the filter's expression is not asked for the count; it is when they are delivered.");
  if (dryRun) {
    print(`${what} would be delivered to ${name} again.`);
    return;
  }
  if (plan.before > 0) note(`${plan.before} of this callback ${plan.before === 1 ? "goes" : "go"} first.`);
  if (suspend) note("the callback is suspended, and gets them when it goes on.");
  print(`Replay ${id}: ${what} will be delivered to ${name} again.`);
}

function list(flags: ListFlags, command: Command): Promise<void> {
  return withCapturedDatabase(flags, command, async ({ client, names }) => {
    const replays = await listReplays(client, names, flags.callback ?? null);
    if (flags.output === "json") return print(JSON.stringify({ replays }));
    print(replays.length === 0 ? "No replays." : replaysText(replays));
  });
}

export function replaysText(replays: readonly Replay[]): string {
  return tableText(
    ["REPLAY", "CALLBACK", "STATE", "READ", "FOUND", "LEFT", "DEAD LETTERS", "REQUESTED"],
    replays.map((one) => [
      one.id,
      one.callback,
      one.incomplete ? `${one.state} (a part was dropped)` : one.state,
      percentOf(one),
      String(one.events),
      String(one.left),
      String(one.deadLetters),
      one.requestedAt,
    ]),
  );
}

function percentOf({ fromId, untilId, readId }: Replay): string {
  const [from, until, read] = [BigInt(fromId) - 1n, BigInt(untilId), BigInt(readId)];
  return `${until === from ? 100n : ((read - from) * 100n) / (until - from)}%`;
}

function cancel(number: string, flags: InputFlags, command: Command): Promise<void> {
  if (!/^\d{1,18}$/.test(number)) refuseFlags(command, "the number of a replay is needed");
  return withCapturedDatabase(flags, command, async ({ client, names }) => {
    if (await cancelReplay(client, names, number)) return print(`Replay ${number} is cancelled.`);
    throw new PgEventsError("PGE_NOT_FOUND", `No replay ${number} is queued or running.`, {
      remedy: "`pg-events replay list` shows what there is.",
    });
  });
}
