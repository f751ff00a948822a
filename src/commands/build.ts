import { Command, Option } from "commander";
import type { PgEventSource } from "../core/api/source.ts";
import { type Finding, findingText, isFatal } from "../core/capture/findings.ts";
import { sqlScript } from "../core/capture/sql-script.ts";
import { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { type BuildReport, buildCapture } from "../postgres/build.ts";
import { removalSql, removeCapture } from "../postgres/removal.ts";
import { VERSION } from "../version.ts";
import { progressLine } from "./build-progress.ts";
import { type InputFlags, inputsOf } from "./inputs.ts";
import { ownerOf } from "./manifest.ts";
import { withSettingsOptions } from "./settings.ts";

/** Exit code of `--check` when the database is not as the manifest wants it. */
const DIFFERS = 3;

interface BuildFlags extends InputFlags {
  readonly dryRun?: true;
  readonly check?: true;
  readonly uninstall?: true;
  readonly json?: true;
  readonly workerRole?: string;
}

export function buildCommand(): Command {
  const command = new Command("build")
    .description("Make the database's capture match a manifest. Running it again changes nothing.")
    .option("-f, --manifest <file>", "YAML file with a PgEventSource");
  return withSettingsOptions(command)
    .option("--database-url <url>", "postgres:// URL (environment: PG_EVENTS_DATABASE_URL)")
    .option("--secrets <directory>", "files <secret>/<key> for the Secrets that the manifest names")
    .option("--dry-run", "print the SQL, for psql, and change nothing")
    .addOption(
      new Option("--check", `exit with ${DIFFERS} if something differs, and change nothing`).conflicts([
        "dryRun",
        "uninstall",
      ]),
    )
    .option("--uninstall", "remove capture from the database without a trace")
    .option(
      "--worker-role <role>",
      "with capture.install Manual: the role that the worker logs in as (default: the one of the URL)",
    )
    .option("--json", "print the outcome as one line of JSON")
    .action(run);
}

async function run(flags: BuildFlags, command: Command): Promise<void> {
  const { source, database: settings } = await inputsOf(flags, command);
  if (flags.uninstall) return uninstall(flags, source, settings);
  const { capture, callbacks } = source.spec;
  const { workerRole } = flags;
  const owner = ownerOf(source);
  const request = {
    capture,
    callbacks: callbacks.map(({ name }) => name),
    owner,
    version: VERSION,
    workerRole,
  };
  const progress = progressLine(process.stderr);
  const mode = flags.dryRun || flags.check ? "plan" : "apply";
  const report = await buildCapture(settings, request, { mode, onProgress: progress.update }).finally(
    progress.end,
  );
  if (flags.json) print(JSON.stringify(report));
  else if (flags.dryRun) process.stdout.write(sqlScript(report.sql, report.findings));
  else describe(report, flags.check === true);
  process.exitCode = exitCode(report, flags);
  if (report.pending.length > 0 && mode === "apply") throw notOurs(report.pending.length);
}

function exitCode({ changed, failures, findings }: BuildReport, { check, dryRun }: BuildFlags): number {
  if (findings.some(isFatal)) return 1;
  if (check) return changed || failures.length > 0 ? DIFFERS : 0;
  return failures.length > 0 && !dryRun ? 1 : 0;
}

function notOurs(steps: number): PgEventsError {
  const what = steps === 1 ? "One step is" : `${steps} steps are`;
  return new PgEventsError(
    "PGE_MANUAL_INSTALL",
    `spec.capture.install is Manual, so nothing was changed. ${what} to be run by hand.`,
    { remedy: "`pg-events build --dry-run` prints the SQL for psql.", disposition: "stop" },
  );
}

async function uninstall(
  flags: BuildFlags,
  source: PgEventSource,
  settings: DatabaseSettings,
): Promise<void> {
  const { schemaName, install } = source.spec.capture;
  const request = { schemaName, owner: ownerOf(source) };
  if (flags.dryRun || install === "Manual") {
    const sql = await removalSql(settings, request);
    if (flags.json) print(JSON.stringify({ sql }));
    else process.stdout.write(sqlScript(sql));
    if (!flags.dryRun && sql.length > 0) throw notOurs(sql.length);
    return;
  }
  const removal = await removeCapture(settings, request);
  if (flags.json) print(JSON.stringify(removal));
  else if (!removal.removed) print("Nothing to remove.");
  else print(`Removed capture of ${count(removal.tables, "table")} and schema ${schemaName}.`);
}

function describe(report: BuildReport, checking: boolean): void {
  const notes = report.findings.filter(({ severity }) => severity === "Info");
  for (const one of report.findings.filter((finding) => !notes.includes(finding))) complain(one);
  if (report.findings.some(isFatal)) return;
  const state = `${count(report.tables, "table")} captured, PostgreSQL ${report.serverVersion}, schema changes: ${report.schemaChangeMode}`;
  if (!report.changed && report.pending.length === 0) print(`Nothing changed: ${state}.`);
  else if (checking) print(`Differs: ${report.actions.map(({ id }) => id).join(", ")}.`);
  else if (report.changed) print(`Built (${count(report.actions.length, "action")}): ${state}.`);
  for (const one of notes) print(`note: ${findingText(one)}`);
}

function complain(one: Finding): void {
  process.stderr.write(`${one.severity === "Warning" ? "warning: " : ""}${findingText(one)}\n`);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
