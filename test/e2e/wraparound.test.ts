/** Transaction ids of 32 bits begin anew; those of 64 bits, which the outbox holds, do not. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { giveTo, serverUser } from "../../src/runtime/embedded-postgres-binaries.ts";
import { useInstalledPostgres } from "../support/installed-postgres.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";

const WRAP = 2 ** 32;
/** Ids before the wrap at which the server goes on: the worker's own come out of these, too. */
const LEFT = 1000;
/** Of a file of pg_xact: 256 KiB for a million ids, two bits each. */
const STATUS_FILE = { name: "0FFF", bytes: 262_144 };

test("G1 events go on in order while transaction ids pass 2^32, across a backlog and a long transaction", async (t) => {
  const installed = useInstalledPostgres(t);
  if (installed === null) return;
  const { programs, run } = installed;
  const dataDir = mkdtempSync(join(tmpdir(), "pg-events-wrap-"));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const settings = { fsync: "off", autovacuum: "off" };
  const young = await startEmbeddedPostgres({ programs, dataDir, settings });
  t.after(() => young.stop("immediate"));
  const receiver = await startReceiver(t);
  const spec = { callbacks: [callbackTo(receiver.url, { ordering: "Source" })] };
  const before = await connect(t, young.url);
  await before.query("create table orders (id integer primary key, step integer)");
  await localSource(t, young, spec).build();
  await before.query("insert into orders values (1, 0)"); // a backlog from before
  for (const database of ["postgres", "template1"]) {
    const client = await connect(t, young.url.replace(/\/postgres$/, `/${database}`));
    await client.query("vacuum (freeze)");
    await client.end();
  }
  await young.stop("fast");

  const next = WRAP - LEFT;
  run("pg_resetwal", ["-x", String(next), "-u", String(next - 1000), "-D", join(dataDir, "data")]);
  const statuses = join(dataDir, "data/pg_xact", STATUS_FILE.name);
  writeFileSync(statuses, Buffer.alloc(STATUS_FILE.bytes), { mode: 0o600 });
  giveTo(serverUser(), statuses);

  const old = await startEmbeddedPostgres({ programs, dataDir, settings });
  t.after(() => old.stop("immediate"));
  await localSource(t, old, spec).startWorker();
  const writer = await connect(t, old.url);
  const long = await connect(t, old.url);
  await long.query("begin; insert into orders values (2, 0)");
  const { rows: first } = await long.query("select pg_current_xact_id()::text as id");
  assert.ok(Number(first[0]?.id) < WRAP, `${first[0]?.id}`);
  let last = 0;
  for (let step = 1; last < WRAP + 50; step += 1) {
    const { rows } = await writer.query(
      "update orders set step = $1 where id = 1 returning pg_current_xact_id()::text as id",
      [step],
    );
    last = Number(rows[0]?.id);
  }
  await long.query("commit");
  const { rows: written } = await writer.query("select step from orders where id = 1");
  const steps = Number(written[0]?.step);
  await receiver.waitFor(steps + 2, 60_000);
  const ofOne = receiver.events.filter(({ data }) => data.new?.id === 1).map(({ data }) => data.new?.step);
  assert.deepEqual(
    ofOne,
    Array.from({ length: steps + 1 }, (_, step) => step),
    "each once, in order",
  );
  assert.equal(receiver.events.filter(({ data }) => data.new?.id === 2).length, 1);
  const seen = "select pg_snapshot_xmin(seen)::text::bigint > 4294967296 as past from pgevents.callback";
  await eventually(async () => (await writer.query(seen)).rows[0]?.past, {
    what: "the position behind 2^32",
  });
});
