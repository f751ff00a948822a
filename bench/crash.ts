/** kill -9 of a worker in the middle of a backlog: how soon after its restart everything has come, and what came twice. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { untilCount, worker } from "./relay.ts";
import { type Bench, insertRows, startBenchReceiver, told } from "./setup.ts";

const BACKLOG = 20_000;
const ROUNDS = 5;

export async function benchCrash(bench: Bench): Promise<string[]> {
  const receiver = await startBenchReceiver();
  const source = bench.source(receiver.url);
  const seconds: number[] = [];
  const repeats: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await bench.client.query("truncate bench restart identity");
    await bench.build(source);
    await receiver.reset();
    await bench.client.query(insertRows(BACKLOG));
    const first = worker(bench, source);
    await untilCount(receiver, BACKLOG / 2);
    first.kill("SIGKILL");
    await once(first, "exit");
    const restartedMs = performance.now();
    const second = worker(bench, source);
    await untilCount(receiver, BACKLOG);
    while ((await receiver.arrivals()).size < BACKLOG) await sleep(5); // some of them were repeats
    seconds.push((performance.now() - restartedMs) / 1000);
    second.kill("SIGTERM");
    await once(second, "exit");
    repeats.push((await receiver.count()) - BACKLOG);
    await bench.remove();
  }
  receiver.close();
  return [
    "| kill -9 in the middle of 20,000 events | |",
    "|---|---|",
    `| from the restart until all have come, s | ${told(seconds, 2)} |`,
    `| repeats | ${told(repeats)} |`,
  ];
}
