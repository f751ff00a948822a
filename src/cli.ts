#!/usr/bin/env node
/** The program: one file a command, loaded only when it is used, so that a worker stays small. */
import { Command, CommanderError } from "commander";
import { describeError, PgEventsError } from "./core/errors.ts";
import { maskSecrets } from "./runtime/log.ts";
import { VERSION } from "./version.ts";

const USAGE_EXIT = 2;

const COMMANDS: Record<string, () => Promise<Command>> = {
  build: async () => (await import("./commands/build.ts")).buildCommand(),
  worker: async () => (await import("./commands/worker.ts")).workerCommand(),
  dev: async () => (await import("./commands/dev.ts")).devCommand(),
  types: async () => (await import("./commands/types.ts")).typesCommand(),
  status: async () => (await import("./commands/status.ts")).statusCommand(),
  tail: async () => (await import("./commands/tail.ts")).tailCommand(),
  replay: async () => (await import("./commands/replay.ts")).replayCommand(),
  "dead-letters": async () => (await import("./commands/dead-letters.ts")).deadLettersCommand(),
  operator: async () => (await import("./commands/operator.ts")).operatorCommand(),
};

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("pg-events")
    .description("PostgreSQL change events as a Kubernetes resource.")
    .version(VERSION);
  const named = COMMANDS[argv[0] ?? ""];
  for (const load of named === undefined ? Object.values(COMMANDS) : [named])
    program.addCommand(await load());
  const nested = program.commands.flatMap(({ commands }) => commands);
  for (const command of [program, ...program.commands, ...nested])
    command.exitOverride().showHelpAfterError("(--help lists the options)");
  await program.parseAsync([...argv], { from: "user" });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE_EXIT;
  } else {
    const text =
      error instanceof PgEventsError ? describeError(error) : `PGE_INTERNAL: ${(error as Error).stack}`;
    process.stderr.write(`${maskSecrets(text)}\n`);
    process.exitCode = 1;
  }
}
