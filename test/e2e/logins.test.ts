/** How a worker logs in: from files that change, and to a server that refuses. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { countingProxy } from "../support/counting-proxy.ts";
import { callbackTo, localSource } from "../support/local-source.ts";
import { connect, type TestEnd, testDatabase } from "../support/postgres.ts";
import { eventually, startCli } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { secretData } from "../support/sources.ts";

/** Milliseconds in which a worker looks at its database at least twice. */
const LOOKS_MS = 7000;
const REFUSED = /PGE_AUTHENTICATION_FAILED/;

/** A source that is built, and its Secret as files. */
async function scene(t: TestEnd) {
  const database = await testDatabase(t, { owner: true });
  await database.query("create table orders (id integer primary key)");
  const receiver = await startReceiver(t);
  const proxy = await countingProxy(t, database.settings);
  const settings = { ...database.settings, host: proxy.host, port: proxy.port };
  const source = localSource(t, database, {
    database: { secretRef: { name: "shop-db" }, tls: { mode: "Disable" } },
    callbacks: [callbackTo(receiver.url)],
  });
  await source.build();
  const secrets = join(dirname(source.manifest), "secrets");
  mkdirSync(join(secrets, "shop-db"), { recursive: true });
  const writeSecret = (password: string) => {
    for (const [key, value] of Object.entries(secretData({ ...settings, password })))
      writeFileSync(join(secrets, "shop-db", key), value);
  };
  const admin = await connect(t, database.superuserUrl);
  const startWorker = () => {
    const addresses = ["--metrics-address=127.0.0.1:0", "--probes-address=127.0.0.1:0"];
    return startCli(t, ["worker", `--manifest=${source.manifest}`, `--secrets=${secrets}`, ...addresses]);
  };
  return { database, receiver, proxy, writeSecret, admin, startWorker };
}

/** Nothing tells of a login that is not made: it is given the time for it. */
async function lookSeveralTimes(): Promise<void> {
  const startedMs = performance.now();
  await eventually(() => performance.now() - startedMs > LOOKS_MS);
}

test("F15 a worker whose password is refused logs in once in half a minute, and at once when its Secret changes", async (t) => {
  const { database, receiver, proxy, writeSecret, startWorker } = await scene(t);
  writeSecret("wrong-password");
  const worker = startWorker();
  await worker.waitForLine(REFUSED);
  await lookSeveralTimes();
  assert.equal(proxy.connections(), 1);
  writeSecret(database.settings.password ?? "");
  await worker.waitForLine(/"relaying callback"/, 10_000);
  await database.query("insert into orders values (1)");
  await receiver.waitFor(1);
  assert.doesNotMatch(worker.stdout + worker.stderr, /wrong-password/);
});

test("F14 F15 a worker that loses its connections after its password was changed logs in once, then with the new one", async (t) => {
  const { database, receiver, proxy, writeSecret, admin, startWorker } = await scene(t);
  writeSecret(database.settings.password ?? "");
  const worker = startWorker();
  await worker.waitForLine(/"relaying callback"/);
  await admin.query(`alter role ${database.name} password 'rotated-password'`);
  const before = proxy.connections();
  proxy.cut();
  await worker.waitForLine(REFUSED);
  await lookSeveralTimes();
  assert.equal(proxy.connections(), before + 1);
  await admin.query("insert into orders values (1)");
  writeSecret("rotated-password");
  await receiver.waitFor(1, 10_000);
});

test("F13 F16 a worker whose Secret cannot be used any more goes on with what it had", async (t) => {
  const { database, receiver, proxy, writeSecret, startWorker } = await scene(t);
  writeSecret(database.settings.password ?? "");
  const worker = startWorker();
  await worker.waitForLine(/"relaying callback"/);
  writeSecret("line-one\r\nline-two");
  proxy.cut();
  await worker.waitForLine(/going on with the database settings from before/);
  await database.query("insert into orders values (1)");
  await receiver.waitFor(1);
  assert.doesNotMatch(worker.stdout + worker.stderr, /line-one/);
});
