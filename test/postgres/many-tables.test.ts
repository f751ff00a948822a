/** A thousand tables: what a build costs a database in round trips and locks. Its time is in bench/. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Progress } from "../../src/postgres/apply.ts";
import { type BuildOptions, buildCapture } from "../../src/postgres/build.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { countingProxy } from "../support/counting-proxy.ts";
import { connect, testDatabase } from "../support/postgres.ts";

const TABLES = 1000;

describe("a thousand tables", () => {
  test("G3 built in one round trip each; the next build is one query, and locks no table", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`do $$ begin
      for number in 1..${TABLES} loop execute format('create table t%s (id integer primary key, a text)', number); end loop;
    end $$`);
    const proxy = await countingProxy(t, database.settings);
    const settings = { ...database.settings, host: proxy.host, port: proxy.port };
    const build = async (options: Partial<BuildOptions> = {}) => {
      proxy.reset();
      const request = {
        capture: captureSpec(),
        callbacks: ["a"],
        owner: "manifest:default/test",
        version: "1.0.0",
      };
      const report = await buildCapture(settings, request, { mode: "apply", ...options });
      return { report, queries: proxy.queries() };
    };
    const told: Progress[] = [];
    const { report, queries } = await build({ onProgress: (progress) => told.push(progress) });
    assert.deepEqual([report.tables, report.failures], [TABLES, []]);
    assert.deepEqual(
      [told.length, told[349], told.at(-1)?.done],
      [TABLES, { done: 350, total: TABLES }, TABLES],
    );
    assert.ok(queries.length < TABLES + 20, `${queries.length} round trips`);

    // Whoever wants a lock on a table that is held like this would wait, and show among the locks that are not granted.
    const locker = await connect(t, database.url);
    await locker.query(`begin; do $$ begin
      for number in 1..${TABLES} by 50 loop execute format('lock table t%s in access exclusive mode', number); end loop;
    end $$`);
    const held: string[] = [];
    const again = await build({
      inspect: async (client) => {
        const { rows } = await client.query<{ lock: string }>(
          `select locktype || ' ' || coalesce(relation::regclass::text, '') as lock from pg_locks
           where pid = pg_backend_pid() and (locktype = 'advisory' or relation > 16384)`,
        );
        held.push(...rows.map(({ lock }) => lock));
      },
    });
    assert.deepEqual([again.report.changed, again.report.tables], [false, TABLES]);
    assert.deepEqual(held, []);
    const [catalog, inspected, ...others] = again.queries;
    assert.match(catalog ?? "", /^begin; set local search_path/);
    assert.match(inspected ?? "", /from pg_locks/);
    assert.deepEqual(others, []);
  });
});
