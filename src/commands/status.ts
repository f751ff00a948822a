import { Command } from "commander";
import { findingText, isFailure } from "../core/capture/findings.ts";
import { buildCapture } from "../postgres/build.ts";
import { type CallbackDelivery, readDeliveryStatus, readLosses } from "../postgres/delivery-status.ts";
import { listReplays } from "../postgres/replay.ts";
import { type CallbackHolders, readHolders, readOutboxSize } from "../postgres/status.ts";
import { VERSION } from "../version.ts";
import { type Output, outputOption } from "./arguments.ts";
import { type CapturedDatabase, print, tableText, withCapturedDatabase } from "./database-command.ts";
import { type InputFlags, withDatabaseOptions } from "./inputs.ts";
import { ownerOf } from "./manifest.ts";
import { replaysText } from "./replay.ts";

interface StatusFlags extends InputFlags {
  readonly output: Output;
}

export function statusCommand(): Command {
  return withDatabaseOptions(new Command("status"))
    .description(
      "Show how capture and delivery fare. Exit code 1: something needs a look (the lines with !), or the database cannot be read.",
    )
    .addOption(outputOption())
    .action((flags: StatusFlags, command: Command) =>
      withCapturedDatabase(flags, command, async (database) => {
        const report = await read(database);
        print(flags.output === "json" ? JSON.stringify(report) : text(report));
        process.exitCode = report.problems.length > 0 ? 1 : 0;
      }),
    );
}

type CallbackStatus = CallbackDelivery & Omit<CallbackHolders, "name">;
type Report = Awaited<ReturnType<typeof read>>;

async function read({ client, names, source, settings, installation }: CapturedDatabase) {
  const { spec } = source;
  const callbacks = spec.callbacks.map(({ name }) => name);
  const request = { capture: spec.capture, callbacks, owner: ownerOf(source), version: VERSION };
  const build = await buildCapture(settings, request, { mode: "plan" });
  const delivery = await readDeliveryStatus(client, names, callbacks);
  const holders = await readHolders(client, names, callbacks);
  const losses = await readLosses(client, names);
  const outbox = await readOutboxSize(client, names);
  const replays = (await listReplays(client, names, null)).filter(
    ({ state }) => state === "Queued" || state === "Running",
  );
  const merged: CallbackStatus[] = delivery.map((one) => {
    const of = holders.find(({ name }) => name === one.name) as CallbackHolders;
    const suspended =
      spec.suspend || spec.callbacks.some(({ name, suspend }) => suspend && name === one.name);
    const state = suspended ? "Suspended" : one.held ? one.state : "Waiting";
    return { ...one, state, holders: of.holders, position: of.position };
  });
  const capture = {
    schema: spec.capture.schemaName,
    schemaChanges: installation.schemaChangeMode,
    tables: build.tables,
    differs: build.changed || build.pending.length > 0,
    failedTables: build.failures.map(({ where, code }) => ({ table: where, code })),
    pausedSince: losses.pausedSince,
    lostAt: losses.lostAt,
    skippedChanges: losses.skippedChanges,
  };
  const problems = [
    ...build.findings.filter((one) => isFailure(one)).map(findingText),
    ...(capture.differs ? ["capture is not as the manifest wants it: run `pg-events build`"] : []),
    ...(losses.pausedSince === null
      ? []
      : [`capture is paused since ${losses.pausedSince}: changes are lost`]),
    ...(losses.lostAt === null
      ? []
      : [`events were lost at the outbox's limit, the last at ${losses.lostAt}`]),
    ...callbacks
      .filter((name) => !merged.some((one) => one.name === name))
      .map((name) => `callback ${name} has not been built: run \`pg-events build\``),
    ...merged
      .filter(({ state }) => state === "Waiting")
      .map(({ name }) => `callback ${name}: no worker relays it`),
    ...merged
      .filter(({ state }) => state === "Failing")
      .map(({ name, lastError }) => `callback ${name} fails: ${lastError ?? "the worker's log says why"}`),
    ...merged
      .filter(({ deadLetters }) => deadLetters > 0)
      .map(
        ({ name, deadLetters }) =>
          `callback ${name} has ${deadLetters} dead ${deadLetters === 1 ? "letter" : "letters"}: \`pg-events dead-letters list\``,
      ),
  ];
  return { capture, outbox, callbacks: merged, replays, problems };
}

/** Host name, which is that of the pod, and what tells two workers of one machine apart. */
function shortName(worker: string): string {
  return worker.replace(/_([0-9a-f]{4})[-0-9a-f]{32}$/, "_$1");
}

function text({ capture, outbox, callbacks, replays, problems }: Report): string {
  const retained = outbox.retainedSince === null ? "everything" : `everything since ${outbox.retainedSince}`;
  return [
    `Capture: ${capture.tables} ${capture.tables === 1 ? "table" : "tables"}, schema ${capture.schema}, schema changes: ${capture.schemaChanges}`,
    `Outbox: ${(outbox.bytes / 2 ** 20).toFixed(1)} MiB, holds ${retained}`,
    "",
    tableText(
      [
        "CALLBACK",
        "STATE",
        "HOLDERS",
        "PENDING",
        "OLDEST",
        "PARKED",
        "RESENDING",
        "DEAD LETTERS",
        "LOST",
        "POSITION",
      ],
      callbacks.map((one) => [
        one.name,
        one.state,
        one.holders.length === 0
          ? "-"
          : one.holders.map(({ worker, lanes }) => `${shortName(worker)}:${lanes}`).join(" "),
        String(one.pending),
        `${Math.round(one.oldestAgeSeconds)}s`,
        String(one.parked),
        String(one.resending),
        String(one.deadLetters),
        String(one.lostEvents),
        one.position.seen,
      ]),
    ),
    ...(replays.length === 0 ? [] : ["", replaysText(replays)]),
    ...(problems.length === 0 ? [] : ["", ...problems.map((problem) => `! ${problem}`)]),
  ].join("\n");
}
