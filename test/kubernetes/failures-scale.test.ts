/** A thousand sources: what they may cost the operator, the API server and a database they share. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import {
  type Installation,
  installChart,
  type RunningOperator,
  ready,
  scrape,
  startOperator,
  total,
} from "../support/operator.ts";
import { connect, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { type Sources, secretData, sourcesIn } from "../support/sources.ts";

const SOURCES = 1000;
const READY_MS = 60_000;
const MEMORY_MIB = 256;
/** For a healthy source; on 2 busy cores it takes 2, most of them in wait for its turn at the API server. */
const HEALTHY = { timeoutMs: 5000 };
/** The client's own limit: so many requests a second, after a burst. */
const [PER_SECOND, BURST] = [20, 40];
/** The operator's default of sources at once; a build has a second connection for its lock. */
const CONNECTIONS = 2 * 5;

/** Creating and removing them takes its time. */
const LONG = { timeout: 400_000 };
const HANGING = 'pgevents_workqueue_unfinished_work_seconds{name="pgeventsource"}';

test(
  "F49 F50 a thousand sources, first without a database that answers, then all on one",
  LONG,
  async (t) => {
    const plane = await useControlPlane(t);
    if (plane === null) return;
    const namespace = await testNamespace(t, plane);
    const sources = await sourcesIn(t, plane, namespace);
    const database = await testDatabase(t);
    const { settings } = database;
    const port = await silentPort(t);
    const pointTo = (target: number) =>
      sources.writeSecret(secretData({ ...settings, port: target }), { name: "many" });
    await pointTo(1);
    await sources.writeSecret(secretData(settings));
    const installation = await installChart(t, plane, { watchNamespaces: [namespace] });
    await create(sources, namespace);
    const program = bundle(t);
    const startedMs = performance.now();
    const first = await startOperator(t, plane, inPod(installation), [], program);

    await t.test(
      "F49 while no database answers it is ready within a minute, with bounded memory and requests",
      async (t) => {
        await ready(first);
        assert.ok(performance.now() - startedMs < READY_MS);
        await reconciled(first, 150);
        const peak = memoryMib(first);
        assert.ok(peak < MEMORY_MIB, `${peak} MiB`);
        const requests = total(
          await scrape(first.metricsUrl),
          /^pgevents_api_requests_total\{(?!.*"leases")/,
        );
        const seconds = (performance.now() - startedMs) / 1000;
        assert.ok(requests <= BURST + PER_SECOND * (seconds + 1), `${requests} requests in ${seconds} s`);
        t.diagnostic(`${peak.toFixed(0)} MiB, ${(requests / seconds).toFixed(1)} requests a second`);
      },
    );

    await t.test(
      "F49 while the others refuse, a healthy source is built, and its Deployment made again",
      (t) => assertReconciled(t, sources, "first"),
    );

    await t.test("F49 while the others hang, too", async (t) => {
      await pointTo(port);
      await eventually(async () => ((await scrape(first.metricsUrl)).get(HANGING) ?? 0) > 12, {
        what: "sources that hang",
        timeoutMs: 60_000,
      });
      await assertReconciled(t, sources, "second");
      first.kill("SIGKILL");
      await first.exited;
    });

    await t.test("F50 a thousand sources on one database take no more connections than a few", async () => {
      await pointTo(settings.port);
      const observer = await connect(t, database.url);
      const operator = await startOperator(t, plane, installation);
      let most = 0;
      await eventually(
        async () => {
          const { rows } = await observer.query<{ count: number }>(
            "select count(*)::integer from pg_stat_activity where application_name like 'pg-events/%' and datname = current_database()",
          );
          most = Math.max(most, rows[0]?.count ?? 0);
          return (await finished(operator)) >= 100;
        },
        { what: "100 sources that were looked at", timeoutMs: 90_000 },
      );
      assert.ok(most > 0 && most <= CONNECTIONS, `${most} connections`);
      t.diagnostic(`${most} connections`);
    });
  },
);

/** A source whose database is well is built, and its Deployment made again, each in time. */
async function assertReconciled(t: TestContext, sources: Sources, name: string): Promise<void> {
  const startedMs = performance.now();
  await sources.apply({ capture: { schemaName: `pgevents_${name}` } }, name);
  await sources.waitFor("Built", "True", undefined, { name, ...HEALTHY });
  const builtMs = performance.now();
  const { namespace, uid } = (await sources.deployment(name)).metadata;
  await sources.cluster.request("DELETE", `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`);
  await eventually(async () => ((await sources.deployment(name))?.metadata.uid ?? uid) !== uid, {
    what: "another Deployment",
    ...HEALTHY,
  });
  const seconds = (fromMs: number, toMs: number) => ((toMs - fromMs) / 1000).toFixed(1);
  t.diagnostic(
    `built in ${seconds(startedMs, builtMs)} s, the Deployment again in ${seconds(builtMs, performance.now())} s`,
  );
}

async function create({ cluster }: Sources, namespace: string): Promise<void> {
  const path = `/apis/pgevents.dev/v1alpha1/namespaces/${namespace}/pgeventsources`;
  const source = (index: number) => {
    const body = {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: `shop-${index}` },
      spec: {
        database: { secretRef: { name: "many" }, tls: { mode: "Disable" }, connectTimeoutSeconds: 60 },
        capture: { schemaName: "pgevents_many" },
        callbacks: [{ name: "orders", http: { uri: "http://127.0.0.1:9/events" } }],
      },
    };
    return cluster.request("POST", path, { body });
  };
  const answers = await Promise.all(Array.from({ length: SOURCES }, (_, index) => source(index)));
  for (const { status, body } of answers) assert.equal(status, 201, body.message);
}

/** A port that takes connections and says nothing. */
async function silentPort(t: TestContext): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    t.after(() => void socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

const finished = async ({ metricsUrl }: RunningOperator) =>
  total(await scrape(metricsUrl), /^pgevents_reconcile_total/);

async function reconciled(operator: RunningOperator, count: number): Promise<void> {
  await eventually(async () => (await finished(operator)) >= count, {
    what: `${count} reconciles`,
    timeoutMs: 90_000,
  });
}

/** The program as the image has it: the sources take memory for what turns TypeScript into JavaScript. */
function bundle(t: TestContext): string {
  const root = join(import.meta.dirname, "../..");
  const directory = mkdtempSync(join(tmpdir(), "pg-events-bundle-"));
  t.after(() => rmSync(directory, { recursive: true }));
  execFileSync(process.execPath, [join(root, "scripts/build.ts"), join(directory, "dist")]);
  cpSync(join(root, "sql"), join(directory, "sql"), { recursive: true });
  cpSync(join(root, "package.json"), join(directory, "package.json"));
  return join(directory, "dist/cli.js");
}

/** In a container V8 takes half of the memory limit for its heap; here it would take gigabytes. */
function inPod(installation: Installation): Installation {
  return {
    ...installation,
    env: { ...installation.env, NODE_OPTIONS: `--max-old-space-size=${MEMORY_MIB / 2}` },
  };
}

/** The most it had at any time. */
function memoryMib({ pid }: RunningOperator): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}
