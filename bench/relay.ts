/**
 * How fast a worker drains a backlog, over a bare loop in the same run, and what that costs; how soon after the
 * commit an event arrives, and what a worker takes meanwhile.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { PgEventSource } from "../src/core/api/source.ts";
import { processorTimeUs, residentMiB, serverTimeUs } from "./processor-time.ts";
import {
  type Bench,
  type BenchReceiver,
  INSERT,
  insertRows,
  median,
  startBenchReceiver,
  told,
} from "./setup.ts";

const BACKLOG = 50_000;
const ROUNDS = 5;
const LATENCY_SECONDS = 10;
/** A worker runs for days: what its first seconds cost, until its code is compiled, does not count. */
const WARM_UP_SECONDS = 20;

/** The bundle, as the image runs it; run.ts builds it. */
const PROGRAM = ["--max-semi-space-size=2", join(import.meta.dirname, "../dist/cli.js")];

/** Rows of a statement that have rows of the outbox for themselves; those of one on all of the backlog share some. */
const FEW = 200;

/** What one event a request can look like: attributes as headers, which is the default, or all in the body. */
const DRAINS = [
  { perRequest: 1, format: "CloudEventsBinary", perStatement: FEW },
  { perRequest: 1, format: "CloudEventsStructured", perStatement: FEW },
  { perRequest: 100, format: "CloudEventsBatch", perStatement: FEW },
  { perRequest: 100, format: "CloudEventsBatch", perStatement: BACKLOG },
] as const;

export async function benchRelay(bench: Bench): Promise<string[]> {
  const receiver = await startBenchReceiver();
  const lines = [
    "| events a request | rows a statement | drained/s | bare loop/s | ratio | processor, µs an event: worker, server, receiver | bare loop |",
    "|---|---|---|---|---|---|---|",
  ];
  for (const drain of DRAINS) lines.push(await drainRow(bench, receiver, drain));
  lines.push(
    "",
    "| transactions/s | p50 ms | p99 ms | most ms | worker: MiB | of a core |",
    "|---|---|---|---|---|---|",
  );
  for (const rate of [200, 1000]) lines.push(await latencyRow(bench, receiver, rate));
  receiver.close();
  return lines;
}

/** Events a second, and processor time of each an event: the program's, the server's, the receiver's. */
interface Drain {
  readonly rate: number;
  readonly timesUs: readonly number[];
}

async function drainRow(
  bench: Bench,
  receiver: BenchReceiver,
  { perRequest, format, perStatement }: (typeof DRAINS)[number],
): Promise<string> {
  const batch = perRequest === 1 ? {} : { batch: { maxEvents: perRequest } };
  const source = bench.source(receiver.url, { http: { format }, ...batch });
  const drained: Drain[] = [];
  const bare: Drain[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await bench.client.query("truncate bench restart identity");
    await bench.build(source);
    for (let written = 0; written < BACKLOG; written += perStatement)
      await bench.client.query(insertRows(perStatement));
    bare.push(
      await drainBy(bench, receiver, () =>
        program("bare-loop.ts", [bench.server.url, receiver.url, String(perRequest)]),
      ),
    );
    drained.push(await drainBy(bench, receiver, () => worker(bench, source)));
    await bench.remove();
  }
  const ratios = drained.map(({ rate }, index) => rate / (bare[index]?.rate ?? 1));
  const rates = (drains: readonly Drain[]) => told(drains.map(({ rate }) => rate));
  const times = (drains: readonly Drain[]) =>
    [0, 1, 2]
      .map((part) => median(drains.map(({ timesUs }) => timesUs[part] ?? Number.NaN)).toFixed(1))
      .join(", ");
  return `| ${perRequest}, ${format} | ${perStatement} | ${rates(drained)} | ${rates(bare)} | ${told(ratios, 2)} | ${times(drained)} | ${times(bare)} |`;
}

/** Between the first tenth and the end, so that starting the program does not count. */
async function drainBy(bench: Bench, receiver: BenchReceiver, start: () => ChildProcess): Promise<Drain> {
  await receiver.reset();
  const child = start();
  const used = () => [
    processorTimeUs(child.pid as number),
    serverTimeUs(bench.server.pid),
    processorTimeUs(receiver.pid),
  ];
  const from = await untilCount(receiver, BACKLOG / 10);
  const before = used();
  const to = await untilCount(receiver, BACKLOG);
  const after = used();
  child.kill("SIGTERM");
  await once(child, "exit");
  const events = to.count - from.count;
  return {
    rate: events / ((to.atMs - from.atMs) / 1000),
    timesUs: after.map((us, part) => (us - (before[part] ?? 0)) / events),
  };
}

export async function untilCount(
  receiver: BenchReceiver,
  wanted: number,
): Promise<{ count: number; atMs: number }> {
  for (;;) {
    const count = await receiver.count();
    if (count >= wanted) return { count, atMs: performance.now() };
    await sleep(5);
  }
}

async function latencyRow(bench: Bench, receiver: BenchReceiver, rate: number): Promise<string> {
  const source = bench.source(receiver.url);
  await bench.client.query("truncate bench restart identity");
  await bench.build(source);
  await receiver.reset(); // what came before would make the worker look ready
  const child = worker(bench, source);
  const pid = child.pid as number;
  await writeAndWait(bench, receiver, { rate, seconds: WARM_UP_SECONDS });
  await receiver.reset();
  const startMs = performance.now();
  const usedBeforeUs = processorTimeUs(pid);
  const committed = await writeAndWait(bench, receiver, { rate, seconds: LATENCY_SECONDS });
  const share = ((processorTimeUs(pid) - usedBeforeUs) / 1000 / (performance.now() - startMs)) * 100;
  const resident = residentMiB(pid);
  const arrivals = await receiver.arrivals();
  // From the moment the writer knows of its commit; an event may overtake that.
  const latencies = [...committed]
    .map(([subject, atMs]) => Math.max(0, (arrivals.get(subject) ?? Number.NaN) - atMs))
    .sort((a, b) => a - b);
  child.kill("SIGTERM");
  await once(child, "exit");
  await bench.remove();
  const at = (part: number) => (latencies[Math.floor(latencies.length * part)] ?? Number.NaN).toFixed(1);
  return `| ${rate} | ${at(0.5)} | ${at(0.99)} | ${at(0.9999)} | ${resident.toFixed(0)} | ${share.toFixed(0)} % |`;
}

/** Transactions of one row at this rate, until all have arrived. @returns when each was committed, by CloudEvents subject */
async function writeAndWait(
  bench: Bench,
  receiver: BenchReceiver,
  { rate, seconds }: { rate: number; seconds: number },
): Promise<Map<string, number>> {
  const startMs = performance.now();
  const committed = new Map<string, number>();
  for (let sent = 0; sent < rate * seconds; sent += 1) {
    const waitMs = startMs + (sent / rate) * 1000 - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    const { rows } = await bench.client.query<{ id: string }>(`${INSERT} returning id`);
    committed.set(`public.bench/[${rows[0]?.id}]`, performance.timeOrigin + performance.now());
  }
  await untilCount(receiver, rate * seconds);
  return committed;
}

export function worker(bench: Bench, source: PgEventSource, flags: readonly string[] = []): ChildProcess {
  const env = {
    ...process.env,
    PG_EVENTS_SOURCE: JSON.stringify(source),
    PG_EVENTS_DATABASE_URL: bench.server.url,
    PG_EVENTS_OWNER: "manifest:default/bench",
  };
  const args = [
    "worker",
    "--metrics-address",
    "127.0.0.1:0",
    "--probes-address",
    "127.0.0.1:0",
    "--log-level",
    "Warn",
    ...flags,
  ];
  return spawn(process.execPath, [...PROGRAM, ...args], {
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
}

function program(file: string, args: string[]): ChildProcess {
  return spawn(process.execPath, [join(import.meta.dirname, file), ...args], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}
