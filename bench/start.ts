/** How soon a worker of the bundle works: from its start until it lives, is ready, and the event that waited has come. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../test/support/cluster/free-port.ts";
import { untilCount, worker } from "./relay.ts";
import { type Bench, INSERT, startBenchReceiver, told } from "./setup.ts";

const STARTS = 10;

export async function benchStart(bench: Bench): Promise<string[]> {
  const receiver = await startBenchReceiver();
  const source = bench.source(receiver.url);
  await bench.client.query("truncate bench restart identity");
  await bench.build(source);
  const took = { livez: [] as number[], readyz: [] as number[], event: [] as number[] };
  for (let start = 0; start < STARTS; start += 1) {
    await receiver.reset();
    await bench.client.query(INSERT);
    const address = `127.0.0.1:${await freePort()}`;
    const startMs = performance.now();
    const child = worker(bench, source, ["--probes-address", address]);
    for (const probe of ["livez", "readyz"] as const) {
      while (!(await answers(`http://${address}/${probe}`))) await sleep(2);
      took[probe].push(performance.now() - startMs);
    }
    await untilCount(receiver, 1);
    took.event.push(performance.now() - startMs);
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  await bench.remove();
  receiver.close();
  return [
    "| a worker, from its start until | ms |",
    "|---|---|",
    `| it lives (\`/livez\`) | ${told(took.livez)} |`,
    `| it is ready (\`/readyz\`) | ${told(took.readyz)} |`,
    `| the event that waited has arrived | ${told(took.event)} |`,
  ];
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}
