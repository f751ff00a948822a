/** Programs that tests need, made once and kept between runs. What is in the cache under its own name is complete. */
import { existsSync, globSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "./cluster/binary.ts";

/**
 * The directory of that name in the cache; filled by `fill` when it is not there.
 * @throws what `fill` throws
 */
export async function cachedPrograms(
  name: string,
  fill: (directory: string) => Promise<void>,
): Promise<string> {
  const directory = join(cacheDirectory(), name);
  if (existsSync(directory)) return directory;
  removeUnfinished(directory);
  const unfinished = `${directory}.${process.pid}`;
  mkdirSync(unfinished, { recursive: true });
  try {
    await fill(unfinished);
    renameSync(unfinished, directory);
  } catch (error) {
    if (!existsSync(directory)) throw error; // else another process was faster
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return directory;
}

/** The reason when there is no program, else false. @throws Error with the reason when CI is set */
export async function missing(program: Promise<string | null>, reason: string): Promise<string | false> {
  if ((await program) !== null) return false;
  if (process.env.CI) throw new Error(reason);
  return reason;
}

/** What processes left that were ended while they filled it. */
function removeUnfinished(directory: string): void {
  for (const left of globSync(`${directory}.*`)) {
    try {
      process.kill(Number(left.split(".").at(-1)), 0);
    } catch {
      rmSync(left, { recursive: true, force: true });
    }
  }
}
