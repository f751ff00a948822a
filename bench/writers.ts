/** What capture costs writers: throughput with capture over throughput without, in pairs, in turn. */
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { untilCount, worker } from "./relay.ts";
import { type Bench, INSERT, median, startBenchReceiver, told } from "./setup.ts";

const SECONDS = 4;
const PAIRS = 5;
/** Statements of each connection before the clock starts: plans are made once for a connection's life. */
const WARM_UP = 20;
const UPDATE_ROWS = 10_000;

export async function benchWriters(bench: Bench): Promise<string[]> {
  const source = bench.source("http://127.0.0.1:9/");
  const lines = [
    "| statement | clients | ratio to no capture | transactions/s without | with |",
    "|---|---|---|---|---|",
  ];
  for (const [name, statement] of [
    ["insert", () => INSERT],
    ["update", () => `update bench set a = a + 1 where id = ${1 + Math.floor(Math.random() * UPDATE_ROWS)}`],
  ] as const) {
    for (const clients of [8, 32]) {
      const plain: number[] = [];
      const captured: number[] = [];
      for (let pair = 0; pair < PAIRS; pair += 1) {
        await refill(bench);
        plain.push(await throughput(bench.server.url, clients, statement));
        await refill(bench);
        await bench.build(source);
        captured.push(await throughput(bench.server.url, clients, statement));
        await bench.remove();
      }
      const ratios = captured.map((rate, index) => rate / (plain[index] ?? 1));
      lines.push(`| ${name} | ${clients} | ${told(ratios, 2)} | ${told(plain)} | ${told(captured)} |`);
    }
  }
  for (const perRequest of [1, 100]) lines.push(await besideWorker(bench, perRequest));
  lines.push(...(await benchBulk(bench)));
  return lines;
}

const BESIDE_CLIENTS = 16;

/** The same while a worker relays every event, which takes its part of the processors. */
async function besideWorker(bench: Bench, perRequest: number): Promise<string> {
  const receiver = await startBenchReceiver();
  const batch = { maxEvents: perRequest, maxWaitMilliseconds: 20 };
  const batches = { http: { format: "CloudEventsBatch" }, batch };
  const source = bench.source(receiver.url, perRequest === 1 ? {} : batches);
  const plain: number[] = [];
  const captured: number[] = [];
  for (let pair = 0; pair < PAIRS; pair += 1) {
    await refill(bench);
    plain.push(await throughput(bench.server.url, BESIDE_CLIENTS, () => INSERT));
    await refill(bench);
    await bench.build(source);
    await receiver.reset();
    const child = worker(bench, source);
    await bench.client.query(INSERT);
    await untilCount(receiver, 1);
    captured.push(await throughput(bench.server.url, BESIDE_CLIENTS, () => INSERT));
    child.kill("SIGTERM");
    await once(child, "exit");
    await bench.remove();
  }
  receiver.close();
  const ratios = captured.map((rate, index) => rate / (plain[index] ?? 1));
  return `| insert, beside a worker, ${perRequest} an HTTP request | ${BESIDE_CLIENTS} | ${told(ratios, 2)} | ${told(plain)} | ${told(captured)} |`;
}

const BULK_ROWS = 100_000;

async function benchBulk(bench: Bench): Promise<string[]> {
  const source = bench.source("http://127.0.0.1:9/");
  const columns = INSERT.replace(/ values .*/, "");
  const values =
    "1, 2, 'customer name', 'some street 12', 'a@example.com', 'hhhhhhhhhhhhhhhh', 'iiiiiiiiiiii'";
  const copied = `${values.replaceAll("'", "").replaceAll(", ", "\t")}\n`.repeat(BULK_ROWS);
  const statements: Record<string, () => Promise<unknown>> = {
    insert: () => bench.client.query(`${columns} select ${values} from generate_series(1, ${BULK_ROWS})`),
    update: () => bench.client.query("update bench set a = a + 1"),
    copy: async () => {
      await bench.client.query("truncate bench");
      const into = columns.replace("insert into", "copy");
      await pipeline(Readable.from([copied]), bench.client.query(copyFrom(`${into} from stdin`)));
    },
    delete: () => bench.client.query("delete from bench"),
  };
  const times = new Map(Object.keys(statements).map((name) => [name, [[], []] as [number[], number[]]]));
  for (let pair = 0; pair < PAIRS; pair += 1) {
    for (const captured of [0, 1] as const) {
      await bench.client.query("truncate bench restart identity; checkpoint");
      if (captured === 1) await bench.build(source);
      for (const [name, run] of Object.entries(statements)) {
        const startedMs = performance.now();
        await run();
        times.get(name)?.[captured].push(performance.now() - startedMs);
      }
      if (captured === 1) await bench.remove();
    }
  }
  const rows = [...times].map(([name, [plain, captured]]) => {
    const ratios = captured.map((time, index) => time / (plain[index] ?? 1));
    return `| ${name} | ${told(ratios, 2)} | ${median(plain).toFixed(0)} ms | ${median(captured).toFixed(0)} ms |`;
  });
  const header = `| one statement, ${BULK_ROWS} rows | time over no capture | without | with |`;
  return ["", header, "|---|---|---|---|", ...rows];
}

async function refill(bench: Bench): Promise<void> {
  await bench.client.query(
    `truncate bench restart identity; ${INSERT.replace(/ values .*/, "")} select 1, 2, 'c', 'd', 'e', 'h', 'i' from generate_series(1, ${UPDATE_ROWS}); analyze bench; checkpoint`,
  );
}

/** Transactions a second of so many connections, one statement each. */
async function throughput(url: string, clients: number, statement: () => string): Promise<number> {
  const connections = await Promise.all(
    Array.from({ length: clients }, async () => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      for (let warm = 0; warm < WARM_UP; warm += 1) await client.query(statement());
      return client;
    }),
  );
  const endMs = performance.now() + SECONDS * 1000;
  let done = 0;
  await Promise.all(
    connections.map(async (client) => {
      while (performance.now() < endMs) {
        await client.query(statement());
        done += 1;
      }
    }),
  );
  await Promise.all(connections.map((client) => client.end()));
  return done / SECONDS;
}
