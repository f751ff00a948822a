/** What is kept of the circumstances of a change. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { testDatabase } from "../support/postgres.ts";

async function scene(t: TestContext) {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key)");
  return {
    database,
    build: (context: Partial<CaptureSpec["context"]> = {}) =>
      buildCapture(
        database.settings,
        {
          capture: captureSpec({ context: { query: false, ...context } }),
          callbacks: ["a"],
          owner: "manifest:default/test",
          version: "1",
        },
        { mode: "apply" },
      ),
    async contexts(): Promise<Record<string, unknown>[]> {
      const { rows } = await database.query<{ context: Record<string, unknown> }>(
        "select context::json from pgevents.outbox order by id",
      );
      await database.query("truncate pgevents.outbox");
      return rows.map(({ context }) => context);
    },
  };
}

test("the role and the application are always there, and nothing else", async (t) => {
  const { database, build, contexts } = await scene(t);
  await build();
  await database.query("set application_name = 'shop \"1\"'; insert into orders values (1)");
  assert.deepEqual(await contexts(), [{ session_user: database.name, application_name: 'shop "1"' }]);
});

test("the text of the statement, as the client sent it", async (t) => {
  const { database, build, contexts } = await scene(t);
  await build({ query: true });
  const statement = `insert into orders values (2) /* "quoted" \\ 'text' */`;
  await database.query(statement);
  await database.query("delete from orders where id = $1", [2]);
  assert.deepEqual(
    (await contexts()).map(({ query }) => query),
    [statement, "delete from orders where id = $1"],
  );
});

test("settings of the session and of the transaction, null where one is not set", async (t) => {
  const { database, build, contexts } = await scene(t);
  await build({ settings: ["app.user", "app.tenant"], traceparent: "otel.traceparent" });
  assert.equal(
    (await build({ settings: ["app.user", "app.tenant"], traceparent: "otel.traceparent" })).changed,
    false,
  );
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  await database.query("insert into orders values (1)");
  await database.query(
    `set app.tenant = 'north'; begin; select set_config('app.user', 'o"brien', true); set local otel.traceparent = '${traceparent}'; update orders set id = 2; commit`,
  );
  await database.query("delete from orders");
  const seen = (await contexts()).map(({ settings, traceparent: trace }) => ({ settings, trace }));
  assert.deepEqual(seen, [
    { settings: { "app.user": null, "app.tenant": null }, trace: null },
    { settings: { "app.user": 'o"brien', "app.tenant": "north" }, trace: traceparent },
    { settings: { "app.user": null, "app.tenant": "north" }, trace: null },
  ]);
  await build();
  await database.query("insert into orders values (3)");
  assert.deepEqual(Object.keys((await contexts())[0] ?? {}), ["session_user", "application_name"]);
});
