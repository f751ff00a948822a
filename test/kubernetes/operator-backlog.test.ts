/** Limits of the outbox while no worker runs: here there are no nodes, so no pod ever starts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";

const suite = operatorSuite();
const MAX_BYTES = 16 * 2 ** 20;

async function sceneWith(scene: Scene, backlog: Record<string, unknown>): Promise<void> {
  await scene.connect();
  await scene.apply({ capture: { backlog: { maxBytes: MAX_BYTES, ...backlog } } });
  await scene.waitFor("Built", "True");
  await scene.database.query(
    "insert into orders select i, repeat('9', 700)::numeric from generate_series(1, 30000) as i",
  );
  await scene.askToLook();
}

test("Alert: the source is not Ready, and its status says who holds back how much", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await sceneWith(scene, {});
  const { message } = await scene.waitFor("Delivering", "False", "BacklogLimitReached");
  assert.match(message, /^The outbox takes more than maxBytes \(16\.0 MiB\)\. Callback \S+ has not got/);
  const { status } = (await scene.get()) ?? {};
  assert.ok((status?.delivery?.outboxBytes ?? 0) > MAX_BYTES);
  assert.equal(status?.delivery?.lostEvents, 0);
  assert.ok((status?.callbacks?.[0]?.pendingEvents ?? 0) >= 10_000);
});

test("DropOldest: the operator empties the outbox, counts, and tells", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await sceneWith(scene, { onLimit: "DropOldest" });
  await scene.waitFor("Delivering", "False", "EventsLost");
  const { status } = (await scene.get()) ?? {};
  assert.ok((status?.delivery?.outboxBytes ?? MAX_BYTES) < MAX_BYTES);
  assert.equal(status?.callbacks?.[0]?.lostEvents, 30_000);
});

test("Pause: the operator pauses capture, and lets it go on when the limit is taken away", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await sceneWith(scene, { onLimit: "Pause" });
  await scene.waitFor("Delivering", "False", "CapturePaused");
  assert.match((await scene.get())?.status?.delivery?.capturePausedSince ?? "", /^\d{4}-.*Z$/);
  const count = "select count(*)::integer as count from pgevents.logged(false)";
  const { rows } = await scene.database.query<{ count: number }>(count);
  const before = rows[0]?.count ?? 0;
  await scene.database.query("update orders set total = 1 where id = 1");
  assert.equal((await scene.database.query(count)).rows[0]?.count, before);
  await scene.apply({ capture: { backlog: {} } });
  await scene.waitFor("Delivering", "False", "EventsLost");
  await scene.database.query("update orders set total = 2 where id = 1");
  assert.equal((await scene.database.query(count)).rows[0]?.count, before + 1);
});
