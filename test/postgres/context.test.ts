/** What is kept of the circumstances of a change. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { captured } from "../support/capture-scene.ts";

async function scene(t: TestContext, context: Partial<CaptureSpec["context"]> = {}) {
  const whole = (some: typeof context) => ({ context: { query: false, ...some } });
  const database = await captured(t, "create table orders (id integer primary key)", whole(context));
  return {
    database,
    build: (other = context) => database.build(whole(other)),
    contexts: async () =>
      (await database.told()).map((event) => JSON.parse(event.context) as Record<string, unknown>),
  };
}

test("the role and the application are always there, and nothing else", async (t) => {
  const { database, contexts } = await scene(t);
  await database.query("set application_name = 'shop \"1\"'; insert into orders values (1)");
  assert.deepEqual(await contexts(), [{ session_user: database.name, application_name: 'shop "1"' }]);
});

test("the text of the statement, as the client sent it", async (t) => {
  const { database, contexts } = await scene(t, { query: true });
  const statement = `insert into orders values (2) /* "quoted" \\ 'text' */`;
  await database.query(statement);
  await database.query("delete from orders where id = $1", [2]);
  assert.deepEqual(
    (await contexts()).map(({ query }) => query),
    [statement, "delete from orders where id = $1"],
  );
});

test("settings of the session and of the transaction, null where one is not set", async (t) => {
  const { database, build, contexts } = await scene(t, {
    settings: ["app.user", "app.tenant"],
    traceparent: "otel.traceparent",
  });
  assert.equal((await build()).changed, false);
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
  await build({});
  await database.query("insert into orders values (3)");
  assert.deepEqual(Object.keys((await contexts())[0] ?? {}), ["session_user", "application_name"]);
});
