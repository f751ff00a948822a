import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { databaseFromUrl } from "../../src/core/settings/database.ts";
import { startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { testNamespace } from "../support/control-plane.ts";
import { startKubelet } from "../support/kubelet.ts";
import { ORDERS_CAPTURED, operatorSuite } from "../support/operator-suite.ts";
import { connect, ownServer } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

const suite = operatorSuite();

test("F17 a database that cannot be reached is told with its address, and tried again", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.writeSecret(secretData({ ...scene.database.settings, port: 1 }));
  await scene.apply();
  const { message } = await scene.waitFor("DatabaseReachable", "False", "ConnectionFailed");
  assert.match(message, /127\.0\.0\.1:1/);
  await scene.connect();
  await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
});

test("F17 a database that goes later takes no worker with it, and is found again when it is back", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  const server = await ownServer(t);
  await scene.writeSecret(secretData(databaseFromUrl(server.url, "the test")));
  await scene.apply();
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  await server.kill();
  await scene.askToLook();
  await scene.waitFor("DatabaseReachable", "False", "ConnectionFailed");
  const [pod] = kubelet.pods();
  await eventually(async () => (await fetch(`${pod?.probesUrl}/readyz`)).status === 503, {
    what: "a worker that notices",
  });
  assert.equal((await fetch(`${pod?.probesUrl}/livez`)).status, 200);
  await server.restart();
  await scene.askToLook();
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  assert.deepEqual(
    kubelet.pods().map(({ name, restarts }) => [name, restarts]),
    [[pod?.name, 0]],
  );
});

test("F18 a server that is a replica is told as that, and built once it is the primary", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const dataDir = mkdtempSync(join(tmpdir(), "pg-events-standby-"));
  const server = await startEmbeddedPostgres({ dataDir, settings: { fsync: "off" } });
  t.after(async () => {
    await server.stop();
    rmSync(dataDir, { recursive: true });
  });
  writeFileSync(join(dataDir, "data", "standby.signal"), "");
  const promoted = server.restart(); // says that it accepts connections once it is the primary
  await scene.writeSecret(secretData(databaseFromUrl(server.url, "the test")));
  await scene.apply();
  await scene.waitFor("DatabaseReachable", "False", "DatabaseReadOnly");
  const admin = await eventually(() => connect(t, server.url), { what: "the standby to take connections" });
  // Now it takes logins, and only says of itself that it is a replica.
  await scene.askToLook();
  await eventually(
    async () => {
      const { message } = await scene.waitFor("DatabaseReachable", "False", "DatabaseReadOnly");
      return !message.includes("57P03");
    },
    { what: "a replica that was looked at", timeoutMs: 30_000 },
  );
  const { rows } = await admin.query("select count(*)::integer from pg_namespace where nspname = 'pgevents'");
  assert.deepEqual(rows, [{ count: 0 }]);
  await admin.query("select pg_promote()");
  await promoted;
  await admin.query("create table public.orders (id integer primary key)");
  await scene.waitFor("Built", "True"); // by itself, within 30 seconds
});

test("F19 a failover to a server without the capture is noticed, and capture built there", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  const { name } = scene.database;
  const admin = await connect(t, scene.database.superuserUrl.replace(/\/[^/]*$/, "/postgres"));
  await scene.database.client.end();
  // What a replica that was behind has: the tables, and nothing of ours.
  await admin.query(`drop database ${name} with (force)`);
  await admin.query(`create database ${name} owner ${name}`);
  const replica = await connect(t, scene.database.url);
  await replica.query("create table public.orders (id integer primary key, total numeric)");
  await scene.askToLook();
  await scene.waitForEvent(/^Normal SchemaChanged: .* Others had changed it: schema\.$/);
  await scene.waitFor("Built", "True");
  const { rows } = await replica.query("select count(*)::integer from pg_trigger where not tgisinternal");
  assert.deepEqual(rows, [{ count: ORDERS_CAPTURED.orders }]);
});

test("F20 a table of somebody else is named, with the right that is needed; the others are captured", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const admin = await connect(t, scene.database.superuserUrl);
  await admin.query("create table public.foreign_one (id integer primary key)");
  await scene.connect();
  await scene.apply();
  const { message } = await scene.waitFor("Built", "False", "PermissionDenied");
  assert.match(message, /^public\.foreign_one: .*grant trigger on public\.foreign_one/);
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
  await admin.query(`grant trigger on public.foreign_one to ${scene.database.name}`);
  await scene.askToLook();
  await scene.waitFor("Built", "True");
});

test("F26 a database that another source owns is left to it", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  await scene.apply({}, "second");
  const { message } = await scene.waitFor("Built", "False", "OwnershipConflict", { name: "second" });
  assert.match(message, /schemaName/);
  assert.equal((await scene.get("second"))?.metadata.finalizers, undefined);
  assert.equal(await scene.deployment("second"), null);
  await scene.remove("second");
  await scene.waitUntilGone("second");
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);

  // The same in another namespace, and so in another cluster: the owner is known by its uid.
  const elsewhere = await sourcesIn(t, scene.plane, await testNamespace(t, scene.plane));
  await elsewhere.writeSecret(secretData(scene.database.settings));
  await elsewhere.apply();
  await elsewhere.waitFor("Built", "False", "OwnershipConflict");
  await elsewhere.remove();
  await elsewhere.waitUntilGone();
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
});
