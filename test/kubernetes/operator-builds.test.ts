/** How the operator builds: SQL for somebody else to run, progress of long builds, findings in status. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { scrape } from "../support/operator.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { connect } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData } from "../support/sources.ts";
import { traces } from "../support/traces.ts";

const suite = operatorSuite();

/** Lets the operator log in as a role that owns nothing. */
async function connectAsWorker(
  scene: Scene,
  admin: { query(sql: string): Promise<unknown> },
): Promise<string> {
  const user = `worker_${randomBytes(4).toString("hex")}`;
  await admin.query(`create role ${user} login password 'worker'`);
  await scene.writeSecret(secretData({ ...scene.database.settings, user, password: "worker" }));
  return user;
}

/** Looks at the source at once. */
const touch = ({ patch }: Scene) =>
  patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": new Date().toISOString() } } });

describe("install: Manual", () => {
  test("the SQL is in a ConfigMap of the source; Built once somebody has run it", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    const admin = await connect(t, scene.database.superuserUrl);
    const before = await traces(scene.database);
    const user = await connectAsWorker(scene, admin);
    await scene.apply({ capture: { install: "Manual" } });
    const { message } = await scene.waitFor("Built", "False", "ManualInstallPending");
    const source = await scene.get();
    const name = source?.status?.build?.manualInstall?.configMapName ?? "";
    assert.match(message, new RegExp(`^Run the SQL in ConfigMap ${name} \\(\\d+ steps\\)`));
    assert.equal(await traces(scene.database), before, "nothing was changed");
    assert.equal(await scene.deployment(), null, "a worker would have nothing to read");
    assert.equal(source?.metadata.finalizers, undefined);

    const path = `/api/v1/namespaces/${scene.namespace}/configmaps/${name}`;
    const { body } = await scene.cluster.request("GET", path);
    assert.equal(body.metadata.ownerReferences[0].uid, source?.metadata.uid);
    await admin.query(body.data["install.sql"]);
    await touch(scene);
    await scene.waitFor("Built", "True");
    await eventually(async () => (await scene.deployment()) !== null, { what: "the worker" });
    assert.equal((await scene.get())?.status?.build?.manualInstall, undefined);
    const { rows } = await admin.query("select owner, epoch from pgevents.installation");
    assert.deepEqual(rows, [
      { owner: `kubernetes:${scene.namespace}/shop/${source?.metadata.uid}`, epoch: "0" },
    ]);

    await admin.query("create table public.later (id integer primary key)");
    await touch(scene);
    const again = await scene.waitFor("Built", "False", "ManualInstallPending");
    assert.match(again.message, /\(1 step\)/);
    const next = (await scene.get())?.status?.build?.manualInstall?.configMapName ?? "";
    assert.notEqual(next, name);
    const sql = (await scene.cluster.request("GET", path.replace(name, next))).body.data["install.sql"];
    assert.match(sql, /create or replace trigger "!pgevents_insert" after insert on "public"\."later"/);
    assert.doesNotMatch(sql, /create schema/);

    const installed = await traces(scene.database);
    await scene.remove();
    await scene.waitUntilGone();
    assert.equal(await traces(scene.database), installed, "capture is left");
    const left = (await scene.events()).find((event) => event.startsWith("Warning CaptureLeft"));
    assert.match(left ?? "", /drop schema "pgevents" cascade;/);
    await admin.query(`drop schema pgevents cascade; drop owned by ${user}; drop role ${user}`);
  });
});

describe("findings", () => {
  test("F20 a table of somebody else is told with the GRANT, without the role's name", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    const admin = await connect(t, scene.database.superuserUrl);
    await admin.query("create table public.theirs (id integer primary key)");
    await scene.apply();
    const { message } = await scene.waitFor("Built", "False", "PermissionDenied");
    assert.match(message, /grant trigger on public\.theirs to ROLE;/);
    const build = (await scene.get())?.status?.build;
    assert.deepEqual(build?.failedTables, ["public.theirs"]);
    assert.match(build?.findings?.[0] ?? "", /^PermissionDenied: public\.theirs: .* to ROLE;$/);
    assert.equal(build?.tables, 1);
    const { user } = scene.database.settings;
    assert.ok(!JSON.stringify(await scene.get()).includes(`"${user}"`));
    await admin.query(`grant trigger on public.theirs to ${user}`);
    await touch(scene);
    await scene.waitFor("Built", "True");
    assert.equal((await scene.get())?.status?.build?.findings, undefined);
  });
});

describe("a long build", () => {
  test("tells how far it is; F32 a change of the spec, and a deletion, end it between two tables", async (t) => {
    const scene = await suite.scene(t);
    if (scene === null) return;
    await scene.connect();
    await scene.database.query(
      "do $$ begin for number in 1..40 loop execute format('create table public.t%s (id integer primary key)', number); end loop; end $$",
    );
    const locker = await connect(t, scene.database.url);
    // Each of these costs the build its three attempts.
    await locker.query(
      "begin; do $$ begin for number in 1..40 loop execute format('lock table public.t%s in share mode', number); end loop; end $$",
    );
    const database = {
      secretRef: { name: "shop-db" },
      tls: { mode: "Disable" },
      lockTimeoutSeconds: 1,
    };
    await scene.apply({ database });
    const building = await scene.waitFor("Built", "Unknown", "Building", { timeoutMs: 60_000 });
    assert.match(building.message, /^\d+ of 41 tables\.$/);
    await scene.waitFor("Ready", "False", "Building");
    await scene.apply({ database, capture: { tables: [{ schema: "public", name: "orders" }] } });
    await scene.waitFor("Built", "True", "Built", { timeoutMs: 30_000 });
    const requeued = 'pgevents_reconcile_total{controller="pgeventsource",result="requeue"}';
    assert.equal((await scrape(scene.operator.metricsUrl)).get(requeued), 1, "that is no error");

    await scene.apply({ database });
    await scene.waitFor("Built", "Unknown", "Building", { timeoutMs: 60_000 });
    await scene.remove();
    await scene.waitUntilGone("shop", 30_000);
    const { rows } = await scene.database.query("select from pg_namespace where nspname = 'pgevents'");
    assert.deepEqual(rows, []);
  });
});
