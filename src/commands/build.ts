import { Command } from "commander";
import { type BuildReport, buildCapture } from "../postgres/build.ts";
import { removeCapture } from "../postgres/removal.ts";
import { VERSION } from "../version.ts";
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
}

export function buildCommand(): Command {
  const command = new Command("build")
    .description("Make the database's capture match a manifest. Running it again changes nothing.")
    .option("-f, --manifest <file>", "YAML file with a PgEventSource");
  return withSettingsOptions(command)
    .option("--database-url <url>", "postgres:// URL (environment: PG_EVENTS_DATABASE_URL)")
    .option("--secrets <directory>", "files <secret>/<key> for the Secrets that the manifest names")
    .option("--dry-run", "print the SQL and change nothing")
    .option("--check", `exit with ${DIFFERS} if something differs, and change nothing`)
    .option("--uninstall", "remove capture from the database without a trace")
    .option("--json", "print the outcome as one line of JSON")
    .action(run);
}

async function run(flags: BuildFlags, command: Command): Promise<void> {
  const { source, database: settings } = await inputsOf(flags, command);
  const owner = ownerOf(source);
  const { capture, callbacks } = source.spec;
  if (flags.uninstall) {
    const removal = await removeCapture(settings, { schemaName: capture.schemaName, owner });
    const { removed, tables } = removal;
    if (flags.json) print(JSON.stringify(removal));
    else
      print(
        removed
          ? `Removed capture of ${count(tables, "table")} and schema ${capture.schemaName}.`
          : "Nothing to remove.",
      );
    return;
  }
  const request = { capture, callbacks: callbacks.map(({ name }) => name), owner, version: VERSION };
  const planOnly = flags.dryRun || flags.check;
  const report = await buildCapture(settings, request, { mode: planOnly ? "plan" : "apply" });
  if (flags.json) print(JSON.stringify(report));
  else if (flags.dryRun) print(report.sql.length === 0 ? "-- nothing to do" : report.sql.join("\n\n"));
  else describe(report, flags.check === true);
  if (flags.check && (report.changed || report.failures.length > 0)) process.exitCode = DIFFERS;
  else if (!flags.dryRun && report.failures.length > 0) process.exitCode = 1;
}

function describe(report: BuildReport, checking: boolean): void {
  for (const { message } of report.findings) print(`note: ${message}`);
  for (const { reason, message } of report.failures) process.stderr.write(`${reason}: ${message}\n`);
  const state = `${count(report.tables, "table")} captured, PostgreSQL ${report.serverVersion}, schema changes: ${report.schemaChangeMode}`;
  if (!report.changed) print(`Nothing changed: ${state}.`);
  else if (checking) print(`Differs: ${report.actions.map(({ id }) => id).join(", ")}.`);
  else print(`Built (${count(report.actions.length, "action")}): ${state}.`);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
