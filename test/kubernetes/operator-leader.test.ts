import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import { type Installation, installChart, type RunningOperator, startOperator } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

/** Short, so that a test need not wait long for a lease to end. */
const FLAGS = ["--lease-duration-seconds=4", "--renew-deadline-seconds=3", "--retry-period-seconds=1"];

/** A leader, a follower, and a namespace with a database that they are to build. */
async function twoOperators(t: TestContext) {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const installation: Installation = await installChart(t, plane);
  const start = () => startOperator(t, plane, installation, FLAGS);
  const leader = await start();
  await leader.waitForLine(/"leading"/);
  const follower = await start();
  await ready(follower);
  const database = await testDatabase(t);
  const sources = await sourcesIn(t, plane, await testNamespace(t, plane));
  await sources.writeSecret(secretData(database.settings));
  await ready(leader);
  return { leader, follower, sources, database };
}

const ready = (operator: RunningOperator) =>
  eventually(async () => (await fetch(`${operator.probesUrl}/readyz`)).ok, {
    what: "the operator to be ready",
  });
const epochOf = async (operator: RunningOperator): Promise<number> =>
  JSON.parse(await operator.waitForLine(/"leading"/)).epoch;

test("F43 the follower takes over from a leader that was killed", async (t) => {
  const scene = await twoOperators(t);
  if (scene === null) return;
  const { leader, follower, sources } = scene;
  await sources.apply();
  await sources.waitFor("Built", "True");
  assert.doesNotMatch(follower.stderr, /"leading"/);
  leader.kill("SIGKILL");
  await follower.waitForLine(/"leading"/);
  assert.ok((await epochOf(follower)) > (await epochOf(leader)));
  await sources.apply({ capture: { retentionSeconds: 5, tables: [{ schema: "public", name: "none" }] } });
  await sources.waitFor("Built", "False", "TableNotFound");
});

test("a leader that is told to end gives the lease back and exits with 0", async (t) => {
  const scene = await twoOperators(t);
  if (scene === null) return;
  const { leader, follower } = scene;
  leader.kill("SIGTERM");
  assert.deepEqual(await leader.exited, { code: 0, signal: null });
  await follower.waitForLine(/"leading"/);
});

test("F44 a leader that was frozen beyond its lease ends instead of writing", async (t) => {
  const scene = await twoOperators(t);
  if (scene === null) return;
  const { leader, follower, sources, database } = scene;
  await sources.apply();
  await sources.waitFor("Built", "True");
  leader.kill("SIGSTOP");
  const epoch = await epochOf(follower);
  await sources.apply({ capture: { tables: [{ schema: "public", name: "*" }] } });
  await sources.waitFor("Built", "True");
  const recorded = async () =>
    (await database.query<{ epoch: string }>("select epoch from pgevents.installation")).rows[0]?.epoch;
  assert.equal(await recorded(), String(epoch));
  leader.kill("SIGCONT");
  assert.equal((await leader.exited).code, 1);
  assert.equal(await recorded(), String(epoch));
});
