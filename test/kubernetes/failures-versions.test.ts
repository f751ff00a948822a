import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { VERSION } from "../../src/version.ts";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import { startKubelet } from "../support/kubelet.ts";
import { installChart, ready, scrape, startOperator } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

const ROOT = join(import.meta.dirname, "../..");
const OLD = "0.0.1";

/** The program of this checkout under an older version. */
function olderCli(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-older-"));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const part of ["src", "sql"]) cpSync(join(ROOT, part), join(directory, part), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  writeFileSync(join(directory, "package.json"), JSON.stringify({ ...manifest, version: OLD }));
  return join(directory, "src/cli.ts");
}

test("F46 F52 G1 G5 a new operator version takes over under traffic: one leads, no worker is restarted, no event lost", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const installation = await installChart(t, plane);
  const namespace = await testNamespace(t, plane);
  const kubelet = await startKubelet(t, plane, namespace);
  const receiver = await startReceiver(t, { host: reachableAddress() });
  const database = await testDatabase(t);
  await database.query("create table public.orders (id serial primary key)");
  const sources = await sourcesIn(t, plane, namespace);
  await sources.writeSecret(secretData(database.settings));
  const old = await startOperator(t, plane, installation, [], olderCli(t));
  await old.waitForLine(/"leading"/);
  await sources.apply({ callbacks: [{ name: "orders", http: { uri: `${receiver.url}/events` } }] });
  await sources.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  assert.equal((await sources.get())?.status?.build?.version, OLD);
  const pods = kubelet.pods().map(({ name }) => name);

  let written = 0;
  const write = async () => {
    await database.query("insert into public.orders default values");
    written += 1;
  };
  await write();
  const fresh = await startOperator(t, plane, installation);
  await ready(fresh);
  await write();
  assert.doesNotMatch(fresh.stderr, /"leading"/);
  old.kill("SIGTERM");
  await fresh.waitForLine(/"leading"/);
  await eventually(
    async () => {
      await write();
      return (await sources.get())?.status?.build?.version === VERSION;
    },
    { what: "the build of the new version", timeoutMs: 60_000 },
  );
  assert.deepEqual(await old.exited, { code: 0, signal: null });
  const again = await startOperator(t, plane, installation, [], olderCli(t));
  await ready(again);
  await write();
  await sources.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
  assert.doesNotMatch(again.stderr, /"leading"/);
  assert.equal((await sources.get())?.status?.build?.version, VERSION);
  await receiver.waitFor(written);
  assert.equal(receiver.duplicates, 0);
  assert.deepEqual(
    kubelet.pods().map(({ name, restarts }) => [name, restarts]),
    pods.map((name) => [name, 0]),
  );
  const { metadata } = await sources.deployment();
  assert.equal(metadata.labels["app.kubernetes.io/version"], VERSION);
});

test("F47 two operators share namespaces by labels, and neither touches what is the other's", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const namespace = await testNamespace(t, plane);
  const sources = await sourcesIn(t, plane, namespace);
  const database = await testDatabase(t);
  await sources.writeSecret(secretData(database.settings));
  const start = async (watchLabelSelector: string) => {
    const operator = await startOperator(t, plane, await installChart(t, plane, { watchLabelSelector }));
    await operator.waitForLine(/"leading"/);
    return operator;
  };
  const [data, others] = [await start("team in (data,shop)"), await start("team notin (data,shop)")];
  await sources.apply({}, "ours", { team: "data" });
  await sources.apply({ capture: { schemaName: "pgevents_other" } }, "theirs");
  for (const name of ["ours", "theirs"]) await sources.waitFor("Built", "True", undefined, { name });
  const knownTo = async ({ metricsUrl }: { metricsUrl: string }) => {
    const names = [...(await scrape(metricsUrl)).keys()].filter((name) => name.includes(`"${namespace}"`));
    return [...new Set(names.map((name) => /source="([^"]*)"/.exec(name)?.[1]))];
  };
  assert.deepEqual(await knownTo(data), ["ours"]);
  assert.deepEqual(await knownTo(others), ["theirs"]);
  await sources.patch({ metadata: { labels: { team: null } } }, "ours");
  await eventually(async () => (await knownTo(data)).length === 0, { what: "its end with the one" });
  await eventually(async () => (await knownTo(others)).length === 2, { what: "its begin with the other" });
  await sources.waitFor("Built", "True", undefined, { name: "ours" });
});
