/** A database that goes on on another server as a copy of its rows: transaction ids are that server's own. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type pg from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import type { PostgresPrograms } from "../../src/runtime/embedded-postgres-binaries.ts";
import { useInstalledPostgres } from "../support/installed-postgres.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestEnd } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

/** Transaction ids of the new server when it takes over, beside those of the rows that it gets. */
const CASES = [
  ["behind them all", () => 0],
  ["in the middle of them", (middle: number) => middle],
  ["ahead of them", (_: number, last: number) => last + 5000],
] as const;

async function spendTransactions(client: pg.Client, until: number): Promise<void> {
  await client.query(
    `do $$ begin while pg_current_xact_id()::text::bigint < ${until} loop commit; end loop; end $$`,
  );
}

async function nextTransaction(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ id: string }>(
    "select pg_snapshot_xmax(pg_current_snapshot())::text as id",
  );
  return Number(rows[0]?.id);
}

async function insertOneByOne(client: pg.Client, from: number, to: number): Promise<void> {
  for (let id = from; id <= to; id += 1) await client.query("insert into orders values ($1)", [id]);
}

describe("G1 pg_dump and restore keep the backlog", () => {
  for (const [name, idsOf] of CASES) {
    test(`transaction ids of the new server are ${name}`, async (t) => {
      const installed = useInstalledPostgres(t);
      if (installed === null) return;
      const from = await server(t, installed.programs);
      const to = await server(t, installed.programs);
      let auditIsUp = false;
      const receiver = await startReceiver(t, {
        respond: ({ path }) => (path === "/audit" && !auditIsUp ? 503 : 204),
      });
      const delivery = { backoffSeconds: 1, maxBackoffSeconds: 1, attempts: 1000 };
      const spec = {
        callbacks: [callbackTo(receiver.url), callbackTo(receiver.url, { name: "audit", delivery })],
      };
      const idsAt = (path: string) =>
        receiver.events.filter(({ callbackPath }) => callbackPath === path).map(({ data }) => data.new?.id);
      const before = await connect(t, from.url);
      await before.query("create table orders (id integer primary key)");
      await spendTransactions(before, 20_000);
      const source = localSource(t, from, spec);
      await source.build();
      const worker = await source.startWorker();
      await insertOneByOne(before, 1, 200);
      await eventually(() => idsAt("/orders").length === 200);
      worker.kill("SIGTERM");
      await worker.exited;
      await spendTransactions(before, (await nextTransaction(before)) + 2000);
      const middle = (await nextTransaction(before)) - 1000;
      await insertOneByOne(before, 201, 300);
      const last = await nextTransaction(before);

      await makeCaptureRole(t, to);
      const copy = installed.run("pg_dump", ["--dbname", from.url]);
      installed.run("psql", ["--dbname", to.url, "--quiet", "--set", "ON_ERROR_STOP=1"], copy);
      const after = await connect(t, to.url);
      await spendTransactions(after, idsOf(middle, last));
      await insertOneByOne(after, 301, 310); // before any worker has seen the new server
      auditIsUp = true;
      await localSource(t, to, spec).startWorker();
      await eventually(() => new Set(idsAt("/audit")).size === 310, { timeoutMs: 60_000 });
      await eventually(() => new Set(idsAt("/orders")).size === 310, { timeoutMs: 60_000 });
      await insertOneByOne(after, 311, 320);
      await eventually(() => new Set(idsAt("/audit")).size === 320 && new Set(idsAt("/orders")).size === 320);
      const all = Array.from({ length: 320 }, (_, index) => index + 1);
      const sorted = (path: string) => idsAt(path).sort((a, b) => Number(a) - Number(b));
      assert.deepEqual(sorted("/audit"), all, "none twice");
      assert.deepEqual(sorted("/orders"), all, "none twice");
    });
  }
});

test("G1 a logical replica whose sequences were not copied keeps the backlog", async (t) => {
  const installed = useInstalledPostgres(t);
  if (installed === null) return;
  const from = await server(t, installed.programs, { wal_level: "logical" });
  const to = await server(t, installed.programs);
  const receiver = await startReceiver(t);
  const ids = () => new Set(receiver.events.map(({ data }) => data.new?.id));
  const before = await connect(t, from.url);
  await before.query("create table orders (id integer primary key)");
  await spendTransactions(before, 20_000);
  const spec = { callbacks: [callbackTo(receiver.url)] };
  const source = localSource(t, from, spec);
  await source.build();
  const worker = await source.startWorker();
  await insertOneByOne(before, 1, 50);
  await eventually(() => ids().size === 50);
  worker.kill("SIGTERM");
  await worker.exited;
  await insertOneByOne(before, 51, 100);

  await makeCaptureRole(t, to);
  const schema = installed.run("pg_dump", ["--dbname", from.url, "--schema-only"]);
  installed.run("psql", ["--dbname", to.url, "--quiet", "--set", "ON_ERROR_STOP=1"], schema);
  const after = await connect(t, to.url);
  await before.query("create publication everything for all tables");
  await after.query("create publication everything for all tables");
  const { host, port, user, password } = from;
  await after.query(
    `create subscription copy connection 'host=${host} port=${port} user=${user} password=${password} dbname=postgres' publication everything`,
  );
  await insertOneByOne(before, 101, 110);
  const count =
    "select (select count(*) from orders) = 110 and (select count(*) from pgevents.logged(false)) >= 110 as whole";
  await eventually(async () => (await after.query(count)).rows[0]?.whole, { what: "the subscription" });
  await after.query("drop subscription copy");

  const next = await localSource(t, to, spec).startWorker();
  const pointed = "select pg_sequence_last_value('pgevents.outbox_segment'::regclass) is not null as there";
  await eventually(async () => (await after.query(pointed)).rows[0]?.there, {
    what: "the sequences put right",
  });
  await insertOneByOne(after, 111, 120);
  await eventually(() => ids().size === 120, { timeoutMs: 60_000 });
  const { rows } = await after.query("select last_value::integer from pgevents.outbox_id");
  assert.ok(rows[0]?.last_value >= 120, "ids go on");
  next.kill("SIGTERM");
  await next.exited;
});

/** Roles are no part of a dump; this one runs the functions of a superuser's build. */
async function makeCaptureRole(t: TestEnd, to: EmbeddedPostgres): Promise<void> {
  const admin = await connect(t, to.url);
  await admin.query("create role pgevents_capture nologin");
}

async function server(
  t: TestEnd,
  programs: PostgresPrograms,
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedPostgres> {
  const started = await startEmbeddedPostgres({ programs, settings: { fsync: "off", ...settings } });
  t.after(() => started.stop("immediate"));
  return started;
}
