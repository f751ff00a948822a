import { scrape } from "./operator.ts";
import type { CliProcess } from "./processes.ts";

/** What a worker that runs tells of itself now: the value of `name{labels}`, NaN when it is not there. */
export async function workerMetrics(worker: CliProcess): Promise<(sample: string) => number> {
  const { metrics: port } = JSON.parse(await worker.waitForLine(/"worker started"/)) as { metrics: number };
  const samples = await scrape(`http://127.0.0.1:${port}/metrics`);
  return (sample) => samples.get(sample) ?? Number.NaN;
}
