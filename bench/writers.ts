/** What capture costs writers: throughput with capture over throughput without, in pairs, in turn. */
import pg from "pg";
import { type Bench, INSERT, median, told } from "./setup.ts";

const SECONDS = 4;
const PAIRS = 5;
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
  lines.push(...(await benchBulk(bench)));
  return lines;
}

async function benchBulk(bench: Bench): Promise<string[]> {
  const source = bench.source("http://127.0.0.1:9/");
  const statements = {
    "insert 100,000": `${INSERT.replace(/ values .*/, "")} select 1, 2, 'customer name', 'some street 12', 'a@example.com', 'hhhhhhhhhhhhhhhh', 'iiiiiiiiiiii' from generate_series(1, 100000)`,
    "update 100,000": "update bench set a = a + 1",
  };
  const times: Record<string, number[][]> = { "insert 100,000": [[], []], "update 100,000": [[], []] };
  for (let pair = 0; pair < PAIRS; pair += 1) {
    for (const captured of [0, 1]) {
      await bench.client.query("truncate bench restart identity");
      if (captured === 1) await bench.build(source);
      for (const [name, statement] of Object.entries(statements)) {
        const startedMs = performance.now();
        await bench.client.query(statement);
        times[name]?.[captured]?.push(performance.now() - startedMs);
      }
      if (captured === 1) await bench.remove();
    }
  }
  const rows = Object.entries(times).map(([name, [plain = [], captured = []]]) => {
    return `| ${name} | ${told(
      captured.map((time, index) => time / (plain[index] ?? 1)),
      2,
    )} | ${median(plain).toFixed(0)} ms | ${median(captured).toFixed(0)} ms |`;
  });
  return ["", "| one statement | time over no capture | without | with |", "|---|---|---|---|", ...rows];
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
