import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { scrape } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually, startCli } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { skewedClock } from "../support/skewed-clock.ts";

const HOUR = 3600;

test("F48 G1 G5 workers whose clocks are two hours apart share a callback, give the database's time, and say so", async (t) => {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key)");
  const receiver = await startReceiver(t);
  const source = localSource(t, database, { callbacks: [callbackTo(receiver.url)] });
  await source.build();
  const start = async (hours: number) => {
    const addresses = ["--metrics-address=127.0.0.1:0", "--probes-address=127.0.0.1:0"];
    const worker = startCli(t, ["worker", `--manifest=${source.manifest}`, ...addresses], {
      env: { PG_EVENTS_DATABASE_URL: database.url, NODE_OPTIONS: skewedClock(hours) },
    });
    const { metrics } = JSON.parse(await worker.waitForLine(/"worker started"/));
    await worker.waitForLine(/"relaying callback"/);
    const told = await worker.waitForLine(/clock is not the database's/, 30_000);
    assert.equal(Math.sign(JSON.parse(told).seconds), hours);
    return { url: `http://127.0.0.1:${metrics}/metrics`, hours };
  };
  const workers = await Promise.all([start(1), start(-1)]);
  for (const { url, hours } of workers) {
    const skew = (await scrape(url)).get("pgevents_clock_skew_seconds") ?? 0;
    assert.ok(Math.abs(skew - hours * HOUR) < 60, `${skew}`);
  }
  await eventually(
    async () => {
      const held = await Promise.all(
        workers.map(async ({ url }) => (await scrape(url)).get('pgevents_held_lanes{callback="orders"}')),
      );
      return held.every((lanes) => lanes === 16);
    },
    { what: "lanes that are shared", timeoutMs: 30_000 },
  );
  await database.query("insert into orders select generate_series(1, 200)");
  await receiver.waitFor(200);
  assert.equal(receiver.duplicates, 0);
  for (const { time } of receiver.events)
    assert.ok(Math.abs(Date.now() - Date.parse(time)) < 60_000, `${time}`);
});
