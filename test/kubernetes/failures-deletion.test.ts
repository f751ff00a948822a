import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { kubectl } from "../support/control-plane.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite();

const FINALIZER = "pgevents.dev/capture";

async function built(
  t: Parameters<typeof suite.scene>[0],
  spec: Record<string, unknown> = {},
): Promise<Scene | null> {
  const scene = await suite.scene(t);
  if (scene === null) return null;
  await scene.connect();
  await scene.apply(spec);
  await scene.waitFor("Built", "True");
  assert.deepEqual((await scene.get())?.metadata.finalizers, [FINALIZER]);
  return scene;
}

async function traces({ database }: Scene): Promise<number> {
  const { rows } = await database.query<{ count: number }>(`
    select (select count(*) from pg_namespace where nspname = 'pgevents')::integer
      + (select count(*) from pg_trigger where not tgisinternal)::integer as count`);
  return rows[0]?.count ?? 0;
}

test("F27 deleting a source removes capture without a trace", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  assert.ok((await traces(scene)) > 0);
  await scene.remove();
  await scene.waitUntilGone();
  assert.equal(await traces(scene), 0);
  await scene.waitForEvent(/^Normal CleanedUp: /);
  await eventually(async () => (await scene.deployment()) === null, { what: "the end of the Deployment" });
  await scene.database.query("insert into public.orders values (1, 2)");
});

test("F27 Retain leaves capture where it is", async (t) => {
  const scene = await built(t, { deletionPolicy: "Retain" });
  if (scene === null) return;
  const before = await traces(scene);
  await scene.remove();
  await scene.waitUntilGone();
  assert.equal(await traces(scene), before);
});

test("F28 a database that is away holds the deletion, until it is back", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  await scene.writeSecret(secretData({ ...scene.database.settings, port: 1 }));
  await scene.remove();
  const { message } = await scene.waitFor("Ready", "False", "CleanupBlocked");
  assert.match(message, /127\.0\.0\.1:1/);
  await scene.waitForEvent(/^Warning CleanupBlocked: /);
  await scene.connect();
  await scene.waitUntilGone();
  assert.equal(await traces(scene), 0);
});

test("F28 a database that stays away does not hold the deletion for ever", async (t) => {
  const scene = await built(t, { deletionDeadlineSeconds: 2 });
  if (scene === null) return;
  await scene.writeSecret(secretData({ ...scene.database.settings, port: 1 }));
  await scene.remove();
  await scene.waitUntilGone();
  await scene.waitForEvent(/^Warning CaptureObjectsOrphaned: /);
  assert.ok((await traces(scene)) > 0);
});

test("F29 a Secret that is gone does not hold the deletion", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  await scene.cluster.request("DELETE", `/api/v1/namespaces/${scene.namespace}/secrets/shop-db`);
  await scene.remove();
  await scene.waitUntilGone("shop", 10_000); // at once, not at the deadline of ten minutes
});

test("F29 a namespace with a source can be deleted", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  const path = `/api/v1/namespaces/${scene.namespace}`;
  await scene.cluster.request("DELETE", path);
  await eventually(async () => (await scene.cluster.request("GET", path)).status === 404, {
    what: "the end of the namespace",
    timeoutMs: 60_000,
  });
});

test("F33 cascading in the foreground ends, too", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  const path = `/apis/pgevents.dev/v1alpha1/namespaces/${scene.namespace}/pgeventsources/shop`;
  await scene.cluster.request("DELETE", `${path}?propagationPolicy=Foreground`);
  await scene.waitUntilGone();
  assert.equal(await traces(scene), 0);
});

test("a source that never built anything goes at once", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.apply();
  await scene.waitFor("CredentialsResolved", "False", "SecretNotFound");
  await scene.remove();
  await scene.waitUntilGone("shop", 5000);
});

test("F33 a deletion that leaves dependents alone ends, too, and takes capture along", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  const path = `/apis/pgevents.dev/v1alpha1/namespaces/${scene.namespace}/pgeventsources/shop`;
  await scene.cluster.request("DELETE", `${path}?propagationPolicy=Orphan`);
  await scene.waitUntilGone();
  assert.equal(await traces(scene), 0);
});

test("F31 with no operator to do it, the command of the documentation lets the source go", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  // Nothing is done for it, as if there were no operator any more.
  await scene.patch({ metadata: { annotations: { "pgevents.dev/reconciliation": "disabled" } } });
  await scene.waitFor("Ready", "Unknown", "ReconciliationDisabled");
  await scene.remove();
  const operations = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
  const patch = /`kubectl patch pges shop --type=json -p '([^']*)'`/.exec(operations)?.[1] ?? "";
  assert.ok((await scene.get())?.metadata.deletionTimestamp);
  await kubectl(scene.plane, ["patch", "pges", "shop", "-n", scene.namespace, "--type=json", "-p", patch]);
  await scene.waitUntilGone();
  assert.ok((await traces(scene)) > 0, "capture stays");
  const drop = /^(drop schema pgevents cascade;)/m.exec(operations)?.[1] ?? "";
  await scene.database.query(drop);
  assert.equal(await traces(scene), 0);
});

test("F6 a source made anew under the same name is another one, and is built", async (t) => {
  const scene = await built(t);
  if (scene === null) return;
  const first = await scene.get();
  await scene.remove();
  await scene.waitUntilGone();
  await scene.apply();
  await scene.waitFor("Built", "True", undefined, { timeoutMs: 60_000 });
  assert.notEqual((await scene.get())?.metadata.uid, first?.metadata.uid);
  await scene.waitFor("Deployed", "Unknown", "DeploymentUpdating", { timeoutMs: 60_000 });
});
