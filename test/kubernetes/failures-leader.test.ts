import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import {
  type Installation,
  installChart,
  type RunningOperator,
  ready,
  startOperator,
} from "../support/operator.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { skewedClock } from "../support/skewed-clock.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

/** Short, so that a test need not wait long for a lease to end. */
const FLAGS = ["--lease-duration-seconds=4", "--renew-deadline-seconds=3", "--retry-period-seconds=1"];

/** A leader, a follower, and a namespace with a database that they are to build. @param hours how far their clocks are ahead */
async function twoOperators(t: TestContext, hours: readonly [number, number] = [0, 0]) {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const installation: Installation = await installChart(t, plane);
  const start = (ahead: number) => {
    const env = ahead === 0 ? installation.env : { ...installation.env, NODE_OPTIONS: skewedClock(ahead) };
    return startOperator(t, plane, { ...installation, env }, FLAGS);
  };
  const leader = await start(hours[0]);
  await leader.waitForLine(/"leading"/);
  const follower = await start(hours[1]);
  await ready(follower);
  const database = await testDatabase(t);
  const sources = await sourcesIn(t, plane, await testNamespace(t, plane));
  await sources.writeSecret(secretData(database.settings));
  await ready(leader);
  return { leader, follower, sources, database };
}

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

test("F54 a leader that is evicted gives the lease back, exits with 0, and the next one need not wait", async (t) => {
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

test("F48 of two operators whose clocks are two hours apart one leads, and the other one follows it", async (t) => {
  const scene = await twoOperators(t, [1, -1]);
  if (scene === null) return;
  const { leader, follower, sources } = scene;
  await sources.apply();
  await sources.waitFor("Built", "True");
  // Several times as long as a lease lasts that nobody renews.
  const startedMs = performance.now();
  await eventually(() => performance.now() - startedMs > 12_000);
  assert.doesNotMatch(follower.stderr, /"leading"/);
  leader.kill("SIGKILL");
  await follower.waitForLine(/"leading"/);
  assert.ok((await epochOf(follower)) > (await epochOf(leader)));
});

/** A build that waits for a lock on a table, and the session that holds it. */
async function waitingBuild(t: TestContext, database: TestDatabase) {
  await database.query("create table public.orders (id integer primary key)");
  const other = await connect(t, database.url);
  await other.query("begin; lock table public.orders in row exclusive mode");
  const builds = async () => {
    const { rows } = await database.query<{ pid: number }>(
      "select pid from pg_stat_activity where application_name = 'pg-events/build' and datname = current_database() and wait_event_type = 'Lock'",
    );
    return rows.map(({ pid }) => pid);
  };
  return { other, builds };
}

const SLOW = { secretRef: { name: "shop-db" }, tls: { mode: "Disable" }, lockTimeoutSeconds: 120 };

test("F45 a leader that is killed while it builds has built nothing by halves; its successor builds", async (t) => {
  const scene = await twoOperators(t);
  if (scene === null) return;
  const { leader, follower, sources, database } = scene;
  const { other, builds } = await waitingBuild(t, database);
  await sources.apply({ database: SLOW });
  const [first] = await eventually(async () => ((await builds()).length > 0 ? builds() : null));
  leader.kill("SIGKILL");
  const epoch = await epochOf(follower);
  await eventually(async () => (await builds()).some((pid) => pid !== first), {
    what: "the build of the successor",
    timeoutMs: 60_000,
  });
  await other.query("commit");
  await sources.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
  assert.deepEqual(await state(database), { epoch: String(epoch), triggers: 4 });
});

test("F45 a leader that is frozen while it builds commits nothing more when it goes on", async (t) => {
  const scene = await twoOperators(t);
  if (scene === null) return;
  const { leader, follower, sources, database } = scene;
  const { other, builds } = await waitingBuild(t, database);
  await sources.apply({ database: SLOW });
  await eventually(async () => (await builds()).length > 0);
  leader.kill("SIGSTOP");
  const epoch = await epochOf(follower);
  await other.query("commit");
  leader.kill("SIGCONT");
  assert.equal((await leader.exited).code, 1);
  await sources.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
  assert.deepEqual(await state(database), { epoch: String(epoch), triggers: 4 });
});

async function state(database: TestDatabase) {
  const { rows } = await database.query(
    "select epoch::text, (select count(*)::integer from pg_trigger where not tgisinternal) as triggers from pgevents.installation",
  );
  return rows[0];
}
