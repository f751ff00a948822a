/** What a worker holds in memory is bounded, whatever the backlog, the size of rows and what the receiver does. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";
import { type CliProcess, eventually } from "../support/processes.ts";
import { type Answer, startReceiver } from "../support/receiver.ts";

/** Rows that are read ahead (SPEC.md), once as bytes that came and once as what is made of them, and the collector's leave. */
const AHEAD_MIB = 32 * 3;
/** A row of 1 MB under way is a text, its bytes, and what the driver and the socket hold of them. */
const IN_FLIGHT_MIB = 16 * 5;

/** The most it had at any time. */
function mostMib({ pid }: CliProcess): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

async function scene(t: TestEnd, answer: Answer) {
  const database = await testDatabase(t, { owner: true });
  let answers = 0;
  const receiver = await startReceiver(t, {
    respond: () => {
      answers += 1;
      return answers === 1 ? 204 : answer;
    },
  });
  await database.query("create table orders (id integer primary key, note text)");
  const callback = callbackTo(receiver.url, { delivery: { timeoutSeconds: 600 } });
  const source = localSource(t, database, { callbacks: [callback] });
  await source.build();
  const worker = await source.startWorker();
  await database.query("insert into orders values (0, 'first')");
  await receiver.waitFor(1);
  return { database, receiver, worker, beforeMib: mostMib(worker) };
}

const note = (bytes: number) => `substr(repeat(md5(i::text), ${Math.ceil(bytes / 32)}), 1, ${bytes})`;
const fill = (rows: number, bytes: number) =>
  `insert into orders select i, ${note(bytes)} from generate_series(1, ${rows}) as i`;

test("100 MB of rows behind a callback that hangs are not read ahead", async (t) => {
  const { database, receiver, worker, beforeMib } = await scene(t, "hang");
  for (let round = 0; round < 10; round += 1) {
    await database.query(fill(1000, 10_000));
    await database.query("truncate orders");
  }
  await eventually(() => receiver.requests.length === 17);
  await database.query("select pg_sleep(3)"); // it would read on
  const grown = mostMib(worker) - beforeMib;
  t.diagnostic(`${beforeMib.toFixed()} MiB, and ${grown.toFixed()} more`);
  assert.ok(grown < AHEAD_MIB, `${grown} MiB`);
});

test("200 rows of 1 MB behind a callback that hangs: only those that are under way are in memory", async (t) => {
  const { database, receiver, worker, beforeMib } = await scene(t, "hang");
  await database.query(fill(200, 1_000_000));
  await eventually(() => receiver.requests.length === 17);
  await database.query("select pg_sleep(3)"); // it would read on
  const grown = mostMib(worker) - beforeMib;
  t.diagnostic(`${beforeMib.toFixed()} MiB, and ${grown.toFixed()} more`);
  assert.ok(grown < IN_FLIGHT_MIB, `${grown} MiB`);
});

test("300 rows of 1 MB that are delivered pass through memory, a few at a time", async (t) => {
  const { database, receiver, worker, beforeMib } = await scene(t, 204);
  await database.query(fill(300, 1_000_000));
  await receiver.waitFor(301, 120_000);
  const grown = mostMib(worker) - beforeMib;
  t.diagnostic(`${beforeMib.toFixed()} MiB, and ${grown.toFixed()} more`);
  assert.ok(grown < AHEAD_MIB + 2 * IN_FLIGHT_MIB, `${grown} MiB`); // the collector comes after some garbage
});
