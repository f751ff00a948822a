import type { CliProcess } from "./processes.ts";

/** What a worker that runs tells of itself now: the value of `name{labels}`, NaN when it is not there. */
export async function workerMetrics(worker: CliProcess): Promise<(sample: string) => number> {
  const { metrics: port } = JSON.parse(await worker.waitForLine(/"worker started"/)) as { metrics: number };
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return (sample) =>
    Number(
      text
        .split("\n")
        .find((line) => line.startsWith(`${sample} `))
        ?.split(" ")[1],
    );
}
