/** Changes of tables, from the statement to the receiver, as a superuser and as an ordinary role. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

async function scene(t: TestContext, owner: boolean, schemaChanges = "Auto") {
  const database = await testDatabase(t, { owner });
  const receiver = await startReceiver(t);
  await database.query("create table orders (id integer primary key)");
  const source = localSource(t, database, {
    capture: { schemaChanges, context: { query: true } },
    callbacks: [
      callbackTo(receiver.url, { name: "all", filter: { schemaChanges: "Include" } }),
      callbackTo(receiver.url, { name: "schema", filter: { schemaChanges: "Only" } }),
      callbackTo(receiver.url, { name: "rows" }),
      callbackTo(receiver.url, {
        name: "classic",
        http: { format: "Classic" },
        filter: { schemaChanges: "Include" },
      }),
    ],
  });
  const built = await source.build();
  const worker = await source.startWorker();
  const bodies = (name: string) =>
    receiver.requests.flatMap(({ path, body }) =>
      path === `/${name}` ? [JSON.parse(body) as Record<string, unknown>] : [],
    );
  const words = (name: string) =>
    receiver.events
      .filter(({ callbackPath }) => callbackPath === `/${name}`)
      .map(({ type, data }) => `${type.split(".").slice(-2).join(" ")} ${data.relation.table}`);
  return { database, receiver, source, worker, built, bodies, words };
}

const modeIn = async (worker: { stderr: string; stdout: string }) => {
  const started = /"metrics":(\d+)/.exec(worker.stdout + worker.stderr)?.[1];
  const text = await (await fetch(`http://127.0.0.1:${started}/metrics`)).text();
  return /pgevents_schema_change_mode\{mode="(\w+)"\} 1/.exec(text)?.[1];
};

test("as a superuser: in the transaction of the change, in order with the rows", async (t) => {
  const { database, worker, built, bodies, words } = await scene(t, false);
  assert.match(built, /schema changes: EventTrigger\.$/m);
  await worker.waitForLine(/"schemaChanges":"EventTrigger".*"capture found"/);
  await eventually(async () => (await modeIn(worker)) === "EventTrigger");
  await database.query(
    "begin; create table items (id integer); insert into items values (1); drop table items; commit",
  );
  await eventually(
    () => words("all").length === 3 && bodies("classic").length === 3 && words("rows").length === 1,
  );
  assert.deepEqual(words("all"), ["schema changed items", "row inserted items", "schema changed items"]);
  assert.deepEqual(words("schema"), ["schema changed items", "schema changed items"]);
  assert.deepEqual(words("rows"), ["row inserted items"]);
  const [created, inserted, dropped] = bodies("classic");
  assert.equal(created?.command_tag, "CREATE TABLE");
  assert.deepEqual(
    [inserted?.method, inserted?.new_data, inserted?.table_name],
    ["INSERT", { id: 1 }, "items"],
  );
  assert.match(String(inserted?.query), /^begin; create table items/);
  assert.deepEqual([dropped?.object_type, dropped?.original, dropped?.object_name], ["table", true, "items"]);
});

test("G4 as an ordinary role: within seconds, by the worker", async (t) => {
  const { database, worker, built, bodies, words } = await scene(t, true);
  assert.match(built, /schema changes: Poll\.$/m);
  await worker.waitForLine(/"schemaChanges":"Poll".*"capture found"/);
  await eventually(async () => (await modeIn(worker)) === "Poll");
  await database.query("create table items (id integer primary key)");
  await eventually(() => words("all").length === 1);
  await worker.waitForLine(/"schema changed: capture renewed"/);
  await database.query("insert into items values (1)");
  await eventually(() => words("all").length === 2);
  await database.query("drop table items");
  await eventually(
    () => words("all").length === 3 && bodies("classic").length === 3 && words("schema").length === 2,
  );
  assert.deepEqual(words("all"), ["schema changed items", "row inserted items", "schema changed items"]);
  assert.deepEqual(
    bodies("classic").map(({ command_tag, method, original }) => command_tag ?? method ?? original),
    ["CREATE TABLE", "INSERT", true],
  );
});

test("what happens to tables while no worker runs is told of afterwards", async (t) => {
  const { database, source, worker, words } = await scene(t, true);
  worker.kill("SIGTERM");
  await worker.exited;
  await database.query("alter table orders add column note text");
  await source.startWorker();
  await eventually(() => words("schema").length === 1);
});

test("Off: nothing is told of, and nothing is captured without a build", async (t) => {
  const { database, built, source, worker, words } = await scene(t, false, "Off");
  assert.match(built, /schema changes: Off\.$/m);
  await worker.waitForLine(/"schemaChanges":"Off".*"capture found"/);
  await database.query("create table items (id integer primary key); insert into items values (1)");
  await database.query("insert into orders values (1)");
  await eventually(() => words("all").length === 1);
  assert.deepEqual(words("all"), ["row inserted orders"]);
  assert.match(await source.build(), /^Built/m);
  await database.query("insert into items values (2)");
  await eventually(() => words("all").length === 2);
});
