/** Callbacks to NATS and Kafka with the real program and real servers. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BrokerMessage } from "../callbacks/broker-message.ts";
import { createTopic, kafkaTo, topicMessages } from "../callbacks/kafka-endpoint.ts";
import { createStream, natsTo, storedMessages } from "../callbacks/nats-endpoint.ts";
import { kafkaMissing, kafkaServer } from "../support/brokers/kafka-server.ts";
import { natsMissing, natsServer } from "../support/brokers/nats-server.ts";
import { localSource } from "../support/local-source.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const ROWS = 200;
const DELIVERY = { backoffSeconds: 1, maxBackoffSeconds: 1, attempts: 1000, timeoutSeconds: 10 };

async function scene(t: TestEnd) {
  const [database, nats, kafka] = [
    await testDatabase(t, { owner: true }),
    await natsServer(t),
    await kafkaServer(t),
  ];
  await createStream(nats);
  const topic = await createTopic(kafka, "orders", 3);
  await database.query("create table orders (id integer primary key, round integer)");
  const source = localSource(t, database, {
    callbacks: [
      { name: "stream", ...natsTo(nats), delivery: DELIVERY },
      { name: "topic", ...kafkaTo(kafka, topic), delivery: DELIVERY },
    ],
  });
  await source.build();
  const change = async (round: number) => {
    if (round === 0)
      await database.query("insert into orders select i, 0 from generate_series(1, $1) as i", [ROWS]);
    else await database.query("update orders set round = $1", [round]);
  };
  return {
    nats,
    kafka,
    source,
    change,
    stream: () => storedMessages(nats),
    topic: () => topicMessages(kafka, topic),
  };
}

const idOf = ({ header }: BrokerMessage) => header("ce-id") ?? header("ce_id") ?? assert.fail();
const distinct = (messages: readonly BrokerMessage[]) => new Set(messages.map(idOf));

/** The rounds of each row, repeats left out: a repeat comes before the next round, or is of an earlier one. */
function assertOrder(messages: readonly BrokerMessage[]): void {
  const latest = new Map<number, number>();
  const seen = new Set<string>();
  for (const message of messages) {
    if (seen.has(idOf(message))) continue;
    seen.add(idOf(message));
    const { data } = { data: JSON.parse(message.body) as { new: { id: number; round: number } } };
    const { id, round } = data.new;
    assert.equal(round, (latest.get(id) ?? -1) + 1, `row ${id}`);
    latest.set(id, round);
  }
}

describe("brokers", { skip: (await natsMissing()) || (await kafkaMissing()) }, () => {
  test("G1 G2 get every change, in order for each row, with the same ids after kill -9 of the worker", async (t) => {
    const { source, change, stream, topic } = await scene(t);
    const rounds = 15;
    let worker = await source.startWorker();
    await worker.waitForLine(/"relaying callback".*"topic"|"topic".*"relaying callback"/);
    for (let round = 0; round < rounds; round += 1) {
      await change(round);
      if (round !== 4 && round !== 9) continue;
      worker.kill("SIGKILL");
      await worker.exited;
      worker = await source.startWorker({ waitForRelay: false });
    }
    await eventually(async () => distinct(await stream()).size === rounds * ROWS, { timeoutMs: 60_000 });
    await eventually(async () => distinct(await topic()).size === rounds * ROWS, { timeoutMs: 60_000 });
    const [streamed, topical] = [await stream(), await topic()];
    assertOrder(streamed);
    assertOrder(topical);
    assert.deepEqual([...distinct(streamed)].sort(), [...distinct(topical)].sort());
    assert.equal(streamed.length, rounds * ROWS, "the stream drops repeats by their id");
    worker.kill();
    assert.equal((await worker.exited).code, 0, worker.stderr);
  });

  test("G1 G2 G5 get every change although they are away for a while; in steady state once", async (t) => {
    const { nats, kafka, source, change, stream, topic } = await scene(t);
    const worker = await source.startWorker();
    await change(0);
    await eventually(async () => (await topic()).length === ROWS && (await stream()).length === ROWS, {
      timeoutMs: 30_000,
    });
    await Promise.all([nats.kill(), kafka.kill()]);
    await change(1);
    await worker.waitForLine(/delivery failed/);
    await change(2);
    await nats.start();
    await eventually(async () => (await stream()).length === 3 * ROWS, { timeoutMs: 30_000 });
    assertOrder(await stream());
    await kafka.start();
    await eventually(async () => distinct(await topic()).size === 3 * ROWS, { timeoutMs: 60_000 });
    assertOrder(await topic());
    await change(3);
    await eventually(async () => distinct(await topic()).size === 4 * ROWS, { timeoutMs: 30_000 });
  });
});
