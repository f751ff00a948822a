/** The clients of brokers are packages that need not be installed; they are loaded by the first callback that uses them. */
import { PgEventsError } from "../core/errors.ts";

/** @throws PgEventsError PGE_CLIENT_MISSING when the package is not there; else what was thrown */
export function missingClient(packages: string, error: unknown): never {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") throw error;
  throw new PgEventsError(
    "PGE_CLIENT_MISSING",
    `The client for this callback is not installed: ${packages}.`,
    {
      remedy: `Run \`npm install ${packages}\`, or use the image, which has it.`,
    },
  );
}
