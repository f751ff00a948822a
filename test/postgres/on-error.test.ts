/** `onError`: what becomes of a write whose change cannot be captured. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { captureNames } from "../../src/core/capture/names.ts";
import { keepOutbox } from "../../src/postgres/backlog.ts";
import { readLosses } from "../../src/postgres/delivery-status.ts";
import { captured } from "../support/capture-scene.ts";
import { captureSpec, tableSpec } from "../support/capture-spec.ts";
import { connect } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const NAMES = captureNames("pgevents");
const TABLES = `create table orders (id integer primary key, n integer);
  create table by_row (id integer primary key, n integer)`;
const BY_ROW = tableSpec({ name: "by_row", columns: { mask: ["n"] } });
const SKIP = { onError: "Skip" as const, tables: [tableSpec({ name: "orders" }), BY_ROW] };

/** What goes wrong, and how it is put right; both as a superuser. `state`: what the writer is told. */
const FAILURES = [
  {
    what: "the outbox is renamed",
    breaks: "alter table pgevents.outbox_0 rename to gone",
    mends: "alter table pgevents.gone rename to outbox_0",
    state: "42P01",
  },
  {
    what: "a constraint that no event meets",
    breaks: "alter table pgevents.outbox add constraint never check (id < 0) not valid",
    mends: "alter table pgevents.outbox drop constraint never",
    state: "23514",
  },
  {
    what: "the right to write is gone",
    breaks: `do $$ begin execute format('revoke insert on pgevents.outbox_0, pgevents.outbox from %I', (select tableowner from pg_tables where tablename = 'outbox_0')); end $$`,
    mends: `do $$ begin execute format('grant insert on pgevents.outbox_0, pgevents.outbox to %I', (select tableowner from pg_tables where tablename = 'outbox_0')); end $$`,
    state: "42501",
  },
];

async function scene(t: TestContext, spec: Parameters<typeof captured>[2]) {
  const found = await captured(t, TABLES, spec);
  const superuser = await connect(t, found.superuserUrl);
  const warnings: string[] = [];
  found.client.on("notice", ({ message = "" }) => warnings.push(message));
  return { ...found, superuser, warnings };
}

async function skipped(client: Awaited<ReturnType<typeof scene>>["superuser"]): Promise<number> {
  return (await readLosses(client, NAMES)).skippedChanges;
}

describe("Skip", () => {
  for (const { what, breaks, mends, state } of FAILURES)
    test(`${what}: every write goes on, with a warning, and each change is counted`, async (t) => {
      const { query, lines, superuser, warnings } = await scene(t, SKIP);
      await superuser.query(breaks);
      for (const table of ["orders", "by_row"]) {
        await query(`insert into ${table} select i, i from generate_series(1, 10) as i`);
        await query(`update ${table} set n = 7 where id <= 3; delete from ${table} where id = 1`);
        assert.equal((await query(`select from ${table}`)).rowCount, 9);
      }
      assert.equal(await skipped(superuser), 2 * (10 + 3 + 1));
      assert.match(
        warnings[0] ?? "",
        new RegExp(`^pg-events: a change of public\\.orders is not captured: .* \\(SQLSTATE ${state}\\)$`),
      );
      await superuser.query(mends);
      await query("insert into orders values (100, 1)");
      assert.deepEqual(await lines(), ["Insert orders [100]"]);
    });

  test("TRUNCATE goes on as well; what is rolled back counts all the same", async (t) => {
    const { query, superuser } = await scene(t, SKIP);
    await superuser.query(FAILURES[1]?.breaks ?? "");
    await query("truncate orders");
    assert.equal(await skipped(superuser), 1);
    await query("begin; insert into orders values (1, 1); rollback");
    assert.equal(await skipped(superuser), 2);
  });

  test("even what counts may be gone", async (t) => {
    const { query, superuser, warnings } = await scene(t, SKIP);
    await superuser.query("drop table pgevents.outbox cascade; drop sequence pgevents.skipped_changes");
    await query("insert into orders values (1, 1); insert into by_row values (1, 1)");
    assert.match(
      warnings[0] ?? "",
      /^pg-events: a change of public\.orders is not captured, and not counted: /,
    );
    assert.equal((await query("select from orders")).rowCount, 1);
  });

  test("a statement that is cancelled, or takes too long, ends; so does what another attempt can put right", async (t) => {
    const { query, client, superuser, superuserUrl } = await scene(t, SKIP);
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    const locker = await connect(t, superuserUrl);
    await locker.query("begin; lock table pgevents.outbox_0 in access exclusive mode");
    const waits = async () => {
      const query = "select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'";
      return (await superuser.query(query, [rows[0]?.pid])).rowCount === 1;
    };
    const write = assert.rejects(query("insert into orders values (1, 1)"), { code: "57014" });
    await eventually(waits, { what: "the write waits" });
    await superuser.query("select pg_cancel_backend($1)", [rows[0]?.pid]);
    await write;
    await assert.rejects(query("set statement_timeout = 100; insert into by_row values (1, 1)"), {
      code: "57014",
    });
    await locker.query("rollback");
    assert.equal(await skipped(superuser), 0);
    await superuser.query(`create function pgevents.conflict() returns trigger language plpgsql as $$
      begin raise exception using errcode = 'serialization_failure', message = 'try again'; end $$;
      create trigger conflict before insert on pgevents.outbox_0 for each row execute function pgevents.conflict()`);
    await assert.rejects(query("insert into orders values (1, 1)"), { code: "40001" });
    assert.equal(await skipped(superuser), 0);
  });

  test("is told by the table loss, one row an hour, and by the losses that status and metrics show", async (t) => {
    const { query, superuser } = await scene(t, SKIP);
    const keep = () => keepOutbox(superuser, NAMES, captureSpec(SKIP));
    assert.equal((await keep()).skipped, 0);
    await superuser.query(FAILURES[0]?.breaks ?? "");
    await query("insert into orders values (1, 1), (2, 2)");
    await superuser.query(FAILURES[0]?.mends ?? "");
    assert.equal((await keep()).skipped, 2);
    assert.equal((await keep()).skipped, 0);
    await superuser.query(FAILURES[0]?.breaks ?? "");
    await query("insert into orders values (3, 3)");
    await superuser.query(FAILURES[0]?.mends ?? "");
    await Promise.all([keep(), keep()]);
    const { rows } = await superuser.query("select kind, reached, callback, events from pgevents.loss");
    assert.deepEqual(rows, [{ kind: "Skipped", reached: null, callback: null, events: "3" }]);
    const losses = await readLosses(superuser, NAMES);
    assert.equal(losses.skippedChanges, 3);
    assert.notEqual(losses.skippedAt, null);
    assert.deepEqual([losses.lostAt, losses.pausedSince], [null, null]);
  });

  test("G4 is switched on and off by functions only, no trigger is touched", async (t) => {
    const { build } = await scene(t, { tables: SKIP.tables });
    for (const onError of ["Skip", "Abort"] as const) {
      const { actions } = await build({ ...SKIP, onError });
      assert.deepEqual(
        actions.map(({ kind }) => kind).filter((kind) => kind === "SetTriggers"),
        [],
      );
      assert.equal((await build({ ...SKIP, onError })).changed, false);
    }
  });
});

describe("Abort", () => {
  for (const { what, breaks, mends, state } of FAILURES)
    test(`G1 ${what}: the write fails, and says which function of the capture schema could not`, async (t) => {
      const { query, lines, superuser } = await scene(t, { tables: SKIP.tables });
      await superuser.query(breaks);
      for (const table of ["orders", "by_row"])
        await assert.rejects(
          query(`insert into ${table} values (1, 1)`),
          (error: { code?: string; where?: string }) => {
            assert.equal(error.code, state);
            assert.match(error.where ?? "", /function pgevents\.capture_(insert|row)\(\)/);
            return true;
          },
        );
      await superuser.query(mends);
      await query("insert into orders values (1, 1)");
      assert.deepEqual(await lines(), ["Insert orders [1]"]);
      assert.equal(await skipped(superuser), 0);
    });
});
