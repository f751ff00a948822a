import assert from "node:assert/strict";
import { test } from "node:test";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, testDatabase } from "../support/postgres.ts";
import { eventually, startCli } from "../support/processes.ts";

const NO_DATABASE = { PG_EVENTS_DATABASE_URL: undefined };

/** Whether a process exists. */
function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("dev shows live events of the sample application, and Ctrl-C leaves nothing running", async (t) => {
  const dev = startCli(t, ["dev"], { env: NO_DATABASE });
  const url = /postgres:\/\/\S+/.exec(await dev.waitForLine(/PostgreSQL is ready/, 60_000))?.[0] ?? "";
  for (const operation of ["Insert", "Update", "Delete"])
    await dev.waitForLine(new RegExp(`terminal\\s+${operation}\\s+public\\.orders`));
  const client = await connect(t, url);
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  await client.query("insert into customers (name) values ('from outside')");
  await dev.waitForLine(/from outside/);
  const server = Number(
    (await client.query("select split_part(pg_read_file('postmaster.pid'), E'\\n', 1) as pid")).rows[0]?.pid,
  );
  dev.kill("SIGINT");
  assert.equal((await dev.exited).code, 0);
  assert.equal(runs(server), false);
  assert.equal(runs(rows[0]?.pid ?? 0), false);
  assert.equal(dev.stderr, "");
});

test("dev killed hard takes its PostgreSQL along", async (t) => {
  const dev = startCli(t, ["dev"], { env: NO_DATABASE });
  const url = /postgres:\/\/\S+/.exec(await dev.waitForLine(/PostgreSQL is ready/, 60_000))?.[0] ?? "";
  const client = await connect(t, url);
  const server = Number(
    (await client.query("select split_part(pg_read_file('postmaster.pid'), E'\\n', 1) as pid")).rows[0]?.pid,
  );
  dev.kill("SIGKILL");
  await eventually(() => !runs(server), { what: "the end of the server" });
});

test("dev -f with a database of one's own applies changes of the file, and removes its capture at the end", async (t) => {
  const database = await testDatabase(t, { owner: true });
  await database.query(
    "create table orders (id integer primary key, note text); create table items (id integer primary key)",
  );
  const only = (name: string) => ({
    capture: { tables: [{ schema: "public", name }] },
    callbacks: [callbackTo("https://orders.example.com", { name: "shop" })],
  });
  const source = localSource(t, database, only("orders"));
  const dev = startCli(t, ["dev", "-f", source.manifest, "--database-url", database.url], {
    env: NO_DATABASE,
  });
  await dev.waitForLine(/Built test: 1 tables captured/);
  await database.query("insert into items values (1); insert into orders values (7, 'seen')");
  await dev.waitForLine(/shop\s+Insert\s+public\.orders\/\[7\]\s+.*seen/);
  source.change(only("items"));
  await eventually(async () => {
    await database.query("insert into items select coalesce(max(id), 0) + 1 from items");
    return /shop\s+Insert\s+public\.items/.test(dev.stdout);
  });
  assert.doesNotMatch(dev.stdout, /public\.items\/\[1\]/, "not captured at that time");
  dev.kill("SIGINT");
  assert.equal((await dev.exited).code, 0);
  const { rows } = await database.query("select from pg_namespace where nspname = 'pgevents'");
  assert.equal(rows.length, 0);
});
