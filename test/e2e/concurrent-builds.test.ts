/** Builds from a post-migration hook of every process of a rolling deployment, while writers and a migration are at work. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { localSource } from "../support/local-source.ts";
import { connect, testDatabase } from "../support/postgres.ts";

const TABLES = Array.from({ length: 12 }, (_, index) => `t${index}`);

for (const owner of [true, false]) {
  const role = owner ? "an ordinary role" : "a superuser";
  test(`G3 G4 ten builds at once as ${role}: no change missed, no deadlock, and then nothing to do`, async (t) => {
    const database = await testDatabase(t, { owner });
    await database.query(TABLES.map((name) => `create table ${name} (id integer primary key)`).join(";"));
    const source = localSource(t, database, {
      callbacks: [{ name: "a", http: { uri: "http://127.0.0.1:9/" } }],
    });
    await source.build();
    let [going, written] = [true, 0];
    const writer = await connect(t, database.url);
    const writing = (async () => {
      while (going) {
        written += 1;
        const name = TABLES[written % TABLES.length];
        await writer.query(`insert into ${name} (id) values ($1)`, [written]);
      }
    })();
    const migration = await connect(t, database.url);
    const migrating = (async () => {
      for (let round = 0; going; round += 1) {
        // Two tables in one transaction, in changing order, and triggers that have to be made anew.
        const [one, other] = round % 2 === 0 ? ["t1", "t2"] : ["t2", "t1"];
        await migration
          .query(
            `begin; alter table ${one} add column c${round} integer; alter table ${other} drop constraint if exists ${other}_pkey, add primary key (id); drop trigger "!pgevents_update" on ${one}; commit`,
          )
          .catch(async (error: { code?: string }) => {
            await migration.query("rollback");
            if (error.code !== "42704") throw error; // the trigger is not there yet: no build has been by
          });
      }
    })();
    try {
      const outputs = await Promise.all(Array.from({ length: 10 }, () => source.build()));
      assert.equal(outputs.length, 10);
    } finally {
      going = false;
      await Promise.all([writing, migrating]);
    }
    await source.build();
    assert.match(await source.build("--check"), /^Nothing changed: 12 tables captured/m);
    const { rows } = await database.query(
      "select count(*)::int as captured from pgevents.logged(false) where operation = 'I'",
    );
    assert.deepEqual(rows, [{ captured: written }]);
  });
}
