/** Module callbacks with the real program: the functions run, and nothing they do ends the worker. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { type LocalSource, localSource } from "../support/local-source.ts";
import { type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually, startCli } from "../support/processes.ts";

/** Keeps what it gets in the file `log` beside it; the note of a row tells it to misbehave. */
const MODULE = `
  import { appendFileSync } from "node:fs";
  const log = (value) => appendFileSync(new URL("log", import.meta.url), JSON.stringify(value) + "\\n");
  export async function onData(event, { id }) {
    const row = event.data.new ?? event.data.old;
    if (row.note === "exit") process.exit(0);
    if (row.note === "loop") for (;;);
    if (row.note === "throw") throw Object.assign(new RangeError("4711"), { permanent: true });
    log({ id, key: row.id, note: row.note });
  }
  export const onSchemaChange = (event) => log({ change: event.data.relation.table });
`;

interface Logged {
  readonly id: string;
  readonly key: number;
  readonly note: string;
  readonly change?: string;
}

/** A table, the module beside the manifest, and a source with a callback that runs it, built. */
async function built(t: TestEnd, delivery: object = {}) {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key, note text)");
  const callbacks = [{ name: "orders", module: { path: "./orders.mjs" }, delivery }];
  const source = localSource(t, database, { callbacks });
  const file = join(dirname(source.manifest), "orders.mjs");
  writeFileSync(file, MODULE);
  await source.build();
  return { database, source, logged: () => logBeside(file) };
}

function logBeside(file: string): Logged[] {
  try {
    const lines = readFileSync(join(dirname(file), "log"), "utf8")
      .trimEnd()
      .split("\n");
    return lines.map((line) => JSON.parse(line) as Logged);
  } catch {
    return [];
  }
}

test("G1 G5 a module gets every change once, in order for each row, and changes of tables", async (t) => {
  const { database, source, logged } = await built(t);
  const worker = await source.startWorker();
  await database.query("insert into orders select i, '0' from generate_series(1, 100) as i");
  for (let round = 1; round <= 4; round += 1)
    await database.query("update orders set note = $1", [String(round)]);
  const rows = () => logged().filter(({ change }) => change === undefined);
  await eventually(() => rows().length >= 500);
  await database.query("alter table orders add column total numeric");
  await eventually(() => logged().some(({ change }) => change === "orders"));
  assert.equal(new Set(rows().map(({ id }) => id)).size, rows().length);
  for (let key = 1; key <= 100; key += 1) {
    const notes = rows().filter((row) => row.key === key);
    assert.deepEqual(
      notes.map(({ note }) => note),
      ["0", "1", "2", "3", "4"],
    );
  }
  worker.kill("SIGTERM");
  assert.equal((await worker.exited).code, 0);
  assert.doesNotMatch(worker.stderr, /"level":"(warn|error)"/);
});

test("G2 process.exit, an endless loop and a throw make dead letters; other keys go on in the same process", async (t) => {
  const { database, source, logged } = await built(t, {
    timeoutSeconds: 1,
    attempts: 2,
    maxBackoffSeconds: 1,
  });
  const worker = await source.startWorker();
  await database.query("insert into orders values (1, 'exit'), (2, 'loop'), (3, 'throw')");
  await database.query("insert into orders select i, 'good' from generate_series(4, 60) as i");
  const letters = await eventually(
    async () => {
      const { rows } = await database.query(
        "select key, attempts, error from pgevents.dead_letter order by key",
      );
      return rows.length === 3 ? rows : null;
    },
    { timeoutMs: 40_000, what: "three dead letters" },
  );
  assert.deepEqual(letters, [
    { key: "[1]", attempts: 2, error: "exit: the module ended its thread (exit code 0)" },
    { key: "[2]", attempts: 2, error: "timeout: onData did not answer within 1 s" },
    { key: "[3]", attempts: 1, error: "thrown: onData threw RangeError at orders.mjs:8:51" },
  ]);
  // The row is good again: what follows a dead letter of its key arrives.
  await database.query("update orders set note = 'better' where id <= 3");
  const keys = () => new Set(logged().map(({ key }) => key));
  await eventually(() => keys().size === 60);
  process.kill(worker.pid, 0); // it runs
  assert.doesNotMatch(worker.stderr, /4711/);
});

test("G1 SIGTERM ends a worker whose module loops; what was under way comes again", async (t) => {
  const { database, source, logged } = await built(t, { timeoutSeconds: 600 });
  const worker = await source.startWorker({ flags: ["--drain-seconds", "1"] });
  await database.query("insert into orders values (1, 'first')");
  await eventually(() => logged().length === 1);
  await database.query("insert into orders values (2, 'loop')");
  await database.query("insert into orders values (3, 'good')");
  worker.kill("SIGTERM");
  assert.deepEqual(await worker.exited, { code: 0, signal: null });
  writeFileSync(join(dirname(source.manifest), "orders.mjs"), MODULE.replace('"loop"', '"no loop"'));
  await source.startWorker();
  await eventually(() => new Set(logged().map(({ key }) => key)).size === 3);
});

test("a module of a ConfigMap is a file below --modules; without it the worker says so and ends", async (t) => {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key, note text)");
  const module = { configMapRef: { name: "shop", key: "orders.mjs" } };
  const source = localSource(t, database, { callbacks: [{ name: "orders", module }] });
  await source.build();
  const without = await source.startWorker({ waitForRelay: false });
  assert.equal((await without.exited).code, 1);
  assert.match(
    without.stderr,
    /^PGE_MODULES_MISSING: .* key orders\.mjs of ConfigMap shop, .* Set --modules or PG_EVENTS_MODULES_DIR/,
  );
  const modules = join(dirname(source.manifest), "modules");
  mkdirSync(join(modules, "shop"), { recursive: true });
  const worker = await source.startWorker({ flags: ["--modules", modules] });
  await database.query("insert into orders values (1, 'first')");
  await worker.waitForLine(/there is no file .*modules\/shop\/orders\.mjs/);
  const file = join(modules, "shop/orders.mjs");
  writeFileSync(file, MODULE);
  await eventually(() => logBeside(file).some(({ note }) => note === "first"));
});

test("dev runs modules, and shows what they print", async (t) => {
  const { database, source } = await built(t);
  writeFileSync(
    join(dirname(source.manifest), "orders.mjs"),
    "export const onData = ({ data }) => console.log('module got', data.new.note);",
  );
  const dev = startDev(t, source, database.url);
  await dev.waitForLine(/^Built test/);
  await database.query("insert into orders values (1, 'seen')");
  await dev.waitForLine(/^module got seen$/);
  dev.kill("SIGINT");
  assert.equal((await dev.exited).code, 0);
});

function startDev(t: TestEnd, { manifest }: LocalSource, url: string) {
  return startCli(t, ["dev", "-f", manifest, "--database-url", url]);
}
