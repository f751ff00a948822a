import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { WakeUp } from "../../src/postgres/wake-up.ts";
import { connect, type TestDatabase, type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const NAMES = captureNames("pgevents");

/** Armed, with notifications that a test can wait for. */
async function armed(t: TestEnd) {
  const database = await testDatabase(t);
  const client = await connect(t, database.url);
  const connection = async () => client;
  const wakeUp = new WakeUp(connection, NAMES, () => undefined); // the database is dropped under it
  t.after(() => wakeUp.close());
  assert.equal(await wakeUp.arm(), true);
  return { database, client, wakeUp };
}

async function lockIsFree(database: TestDatabase): Promise<boolean> {
  const { rows } = await database.query(
    `select pg_try_advisory_xact_lock_shared(${NAMES.wakeLock.join(", ")}) as granted`,
  );
  return rows[0]?.granted === true;
}

describe("wake-ups", () => {
  test("a notification makes one read again, and while they are few the lock is kept", async (t) => {
    const { database, client, wakeUp } = await armed(t);
    for (let sent = 0; sent < 3; sent += 1) {
      const before = wakeUp.armed;
      const woken = wakeUp.wait(60_000, AbortSignal.timeout(30_000));
      const notified = once(client, "notification");
      await database.query(`notify ${NAMES.channel}`);
      await Promise.all([notified, woken]);
      assert.ok(wakeUp.armed > before, "what was read before the notification does not allow to wait");
      assert.equal(await lockIsFree(database), false);
    }
  });

  test("when notifications are many the lock is released, so that writers send no more", async (t) => {
    const { database, wakeUp } = await armed(t);
    await database.query(
      `select pg_notify('${NAMES.channel}', sent::text) from generate_series(1, 100) as sent`,
    );
    await eventually(() => lockIsFree(database));
    assert.equal(wakeUp.armed, 0);
    assert.equal(await wakeUp.arm(), true, "and taken again when nothing more is to be read");
    assert.equal(await lockIsFree(database), false);
  });
});
