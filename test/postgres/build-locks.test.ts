/** Builds beside others: who holds a table's lock, writers, and other builds. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { buildCapture } from "../../src/postgres/build.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { eventually, runCli } from "../support/processes.ts";

function build(database: TestDatabase, lockTimeoutSeconds: number) {
  return buildCapture(
    { ...database.settings, lockTimeoutSeconds },
    { capture: captureSpec(), callbacks: ["a"], owner: "manifest:default/test", version: "1.0.0" },
    { mode: "apply" },
  );
}

describe("build", () => {
  test("G3 a build that meets a locked table lets writers through after lock_timeout", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    const reader = await connect(t, database.url);
    await reader.query("begin; lock table orders in row exclusive mode"); // a long transaction that wrote
    const writer = await connect(t, database.url);
    const building = build(database, 1);
    await eventually(async () => {
      const { rows } = await database.query(
        "select from pg_locks where relation = 'orders'::regclass and not granted",
      );
      return rows.length > 0;
    });
    await writer.query("set lock_timeout = '2s'");
    await writer.query("insert into orders values (1)"); // queues behind the build for at most its lock_timeout
    assert.deepEqual(
      (await building).failures.map(({ code }) => code),
      ["LockTimeout"],
    );
    await reader.query("rollback");
    assert.equal((await build(database, 3)).failures.length, 0);
  });

  test("G4 ten builds at once, in ten processes, during traffic: no change is missed", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key, note text)");
    const source = localSource(t, database, { callbacks: [callbackTo("http://127.0.0.1:9")] });
    await source.build();
    const writer = await connect(t, database.url);
    let written = 0;
    let writing = true;
    const traffic = (async () => {
      while (writing) {
        written += 1;
        await writer.query("insert into orders values ($1)", [written]);
        if (written % 50 === 0)
          await writer.query("alter table orders add column if not exists extra integer");
        if (written % 50 === 25) await writer.query("alter table orders drop column if exists extra");
      }
    })();
    await database.query('drop trigger "!pgevents_update" on orders'); // something to do for the first of them
    const results = await Promise.all(
      Array.from({ length: 10 }, () =>
        runCli(t, ["build", "--manifest", source.manifest], {
          env: { PG_EVENTS_DATABASE_URL: database.url },
        }),
      ),
    );
    writing = false;
    await traffic;
    assert.deepEqual(
      results.map(({ code, stderr }) => [code, stderr]),
      Array(10).fill([0, ""]),
    );
    const { rows } = await database.query(
      "select count(distinct key) as captured from pgevents.change_events() where operation = 'I'",
    );
    assert.equal(rows[0]?.captured, String(written));
  });
});
