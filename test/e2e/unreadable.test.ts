/** An event that cannot be sent, because UTF-8 has no form for what is in its row. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { startReceiver } from "../support/receiver.ts";
import { workerMetrics } from "../support/worker-metrics.ts";

for (const batch of [undefined, { maxEvents: 10, maxWaitMilliseconds: 200 }])
  test(`G1 it becomes a dead letter, and nothing waits for it${batch ? ", of a batch neither" : ""}`, async (t) => {
    const database = await testDatabase(t, { owner: true, encoding: "WIN1252" });
    const receiver = await startReceiver(t);
    await database.query("create table orders (id integer primary key, note text)");
    const callback = callbackTo(receiver.url, batch ? { batch, http: { format: "CloudEventsBatch" } } : {});
    const source = localSource(t, database, { callbacks: [callback] });
    await source.build();
    const worker = await source.startWorker();
    await database.query("insert into orders values (1, 'fine'), (2, chr(129)), (3, 'fine')");
    await database.query("update orders set note = 'mended' where id = 2");
    await receiver.waitFor(3);
    await worker.waitForLine(/event became a dead letter/);
    assert.deepEqual(receiver.events.map(({ data }) => `${data.operation} ${data.new?.id}`).sort(), [
      ...["Insert 1", "Insert 3", "Update 2"],
    ]);
    const { rows } = await database.query(
      "select operation, key, attempts, left(error, 11) as error from pgevents.dead_letter order by id",
    );
    assert.deepEqual(rows, [{ operation: "I", key: "[2]", attempts: 1, error: "unreadable:" }]);
    const sample = await workerMetrics(worker);
    assert.equal(sample('pgevents_deliveries_total{callback="orders",result="dead_letter"}'), 1);
    assert.equal(sample('pgevents_deliveries_total{callback="orders",result="rejected"}'), 0, "by nobody");
  });
