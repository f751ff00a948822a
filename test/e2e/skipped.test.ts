/** `onError: Skip`: what is not captured is told by the worker. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { workerMetrics } from "../support/worker-metrics.ts";

test("writes go on while nothing can be captured; the worker counts what is lost, and goes on after", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const receiver = await startReceiver(t);
  const source = localSource(t, database, {
    capture: { onError: "Skip" },
    callbacks: [callbackTo(receiver.url)],
  });
  await database.query("create table orders (id integer primary key)");
  await source.build();
  const worker = await source.startWorker();
  const superuser = await connect(t, database.superuserUrl);
  await superuser.query("alter table pgevents.outbox add constraint never check (id < 0) not valid");
  await database.query("insert into orders values (1), (2), (3)");
  await superuser.query("alter table pgevents.outbox drop constraint never");
  await database.query("insert into orders values (4)");
  const events = await receiver.waitFor((all) => all.length > 0);
  assert.deepEqual(
    events.map(({ data }) => data.new?.id),
    [4],
  );
  assert.match(await worker.waitForLine(/changes could not be captured/), /"skipped":3/);
  await eventually(async () => (await workerMetrics(worker))("pgevents_skipped_changes_total") === 3, {
    what: "the metric",
  });
});
