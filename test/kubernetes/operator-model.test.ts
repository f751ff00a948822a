/**
 * The world changes at random: Secrets, tables, the spec, the Deployment, what is in the database, and the
 * operator itself. A model says what must come of it; and once it has, nothing may be written any more.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import { environmentOf } from "../support/deployments.ts";
import {
  installChart,
  type RunningOperator,
  ready,
  scrape,
  startOperator,
  total,
} from "../support/operator.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { type Random, randomFrom } from "../support/random-writers.ts";
import { type Sources, secretData, sourcesIn } from "../support/sources.ts";

const ROUNDS = 12;
const FLAGS = ["--lease-duration-seconds=60", "--renew-deadline-seconds=50", "--retry-period-seconds=1"];

interface Model {
  secret: "good" | "missing" | "invalid" | "refuses";
  /** Whether public.later is in the spec, and in the database. */
  wanted: boolean;
  exists: boolean;
  suspend: boolean;
  replicas: number;
  logLevel: string;
  disabled: boolean;
}

interface World {
  readonly sources: Sources;
  readonly database: TestDatabase;
  readonly namespace: string;
  readonly restart: () => Promise<void>;
}

type Change = (model: Model, world: World, random: Random) => Promise<void>;

const SECRETS: Record<Model["secret"], (world: World) => Promise<unknown>> = {
  good: ({ sources, database }) => sources.writeSecret(secretData(database.settings)),
  missing: ({ sources, namespace }) =>
    sources.cluster.request("DELETE", `/api/v1/namespaces/${namespace}/secrets/shop-db`),
  invalid: ({ sources, database }) => sources.writeSecret({ ...secretData(database.settings), port: "none" }),
  refuses: ({ sources, database }) => sources.writeSecret(secretData({ ...database.settings, port: 1 })),
};

const deploymentPath = ({ namespace }: World) => `/apis/apps/v1/namespaces/${namespace}/deployments/shop`;

const CHANGES: Record<string, Change> = {
  async secret(model, world, random) {
    const kinds = ["missing", "invalid", "refuses"] as const;
    model.secret = model.secret === "good" ? (kinds[random(3)] ?? "good") : "good";
    await SECRETS[model.secret](world);
  },
  async spec(model, { sources }, random) {
    model.wanted = random(2) === 0;
    model.suspend = random(3) === 0;
    model.replicas = 1 + random(3);
    model.logLevel = ["Info", "Debug", "Warn"][random(3)] ?? "Info";
    await sources.apply(specOf(model));
  },
  async table(model, { database }) {
    model.exists = !model.exists;
    await database.query(
      model.exists ? "create table public.later (id integer primary key)" : "drop table public.later",
    );
  },
  async capture(_model, { database }, random) {
    const drop = random(2) === 0 ? "drop schema if exists pgevents cascade" : DROP_A_TRIGGER;
    // The operator looks at the same objects: of a deadlock it or this statement is the victim.
    await eventually(
      () =>
        database.query(drop).catch((error: { code?: string }) => {
          if (error.code === "40P01") return null;
          throw error;
        }),
      { what: drop },
    );
  },
  async edit(_model, world, random) {
    const env = [{ name: "PG_EVENTS_LOG_LEVEL", value: "Error" }];
    const spec = { replicas: 5, template: { spec: { containers: [{ name: "worker", env }] } } };
    const body =
      random(2) === 0 ? { spec } : { metadata: { labels: { "app.kubernetes.io/managed-by": "me" } } };
    const type = "application/strategic-merge-patch+json";
    await world.sources.cluster.request("PATCH", deploymentPath(world), { body, type });
  },
  async remove(_model, world) {
    await world.sources.cluster.request("DELETE", deploymentPath(world));
  },
  async disabled(model, { sources }) {
    model.disabled = !model.disabled;
    const annotations = { "pgevents.dev/reconciliation": model.disabled ? "disabled" : null };
    await sources.patch({ metadata: { annotations } });
  },
  async operator(_model, { restart }) {
    await restart();
  },
};

const DROP_A_TRIGGER = `do $$ declare found record; begin
  for found in select tgname, tgrelid::regclass as of from pg_trigger where not tgisinternal limit 1 loop
    execute format('drop trigger %I on %s', found.tgname, found.of);
  end loop; end $$`;

const table = (name: string) => ({ schema: "public", name });
const specOf = ({ wanted, suspend, replicas, logLevel }: Model) => ({
  suspend,
  capture: { tables: [table("orders"), ...(wanted ? [table("later")] : [])] },
  worker: { replicas, logLevel },
});

/** What the source must say. */
function expected({ secret, wanted, exists, disabled }: Model): readonly [string, string, string] {
  if (disabled) return ["Ready", "Unknown", "ReconciliationDisabled"];
  if (secret === "missing") return ["CredentialsResolved", "False", "SecretNotFound"];
  if (secret === "invalid") return ["CredentialsResolved", "False", "SecretInvalid"];
  if (secret === "refuses") return ["DatabaseReachable", "False", "ConnectionFailed"];
  return wanted && !exists ? ["Built", "False", "TableNotFound"] : ["Built", "True", "Built"];
}

async function converges(model: Model, world: World): Promise<void> {
  const { sources, database } = world;
  await askToLook(sources);
  const [type, status, reason] = expected(model);
  await sources.waitFor(type, status, reason, { timeoutMs: 60_000 });
  if (model.disabled || model.secret !== "good") return;
  const captured = ["orders", ...(model.wanted && model.exists ? ["later"] : [])].sort();
  await eventually(
    async () => {
      const { rows } = await database.query<{ name: string }>(
        "select tgrelid::regclass::text as name from pg_trigger where not tgisinternal group by 1 having count(*) = 4 order by 1",
      );
      assert.deepEqual(
        rows.map(({ name }) => name),
        captured,
      );
      const live = await sources.deployment();
      assert.equal(live?.spec.replicas, model.suspend ? 0 : model.replicas);
      assert.equal(environmentOf(live).PG_EVENTS_LOG_LEVEL, model.logLevel);
      assert.equal(live.metadata.labels["app.kubernetes.io/managed-by"], "pgevents-operator");
      return true;
    },
    { what: "what the model says", timeoutMs: 60_000 },
  );
}

const RECONCILES = /^pgevents_reconcile_total/;
const WRITES = /^pgevents_api_requests_total\{verb="(PATCH|POST|PUT|DELETE)",resource="(?!leases)/;

const askToLook = (sources: Sources) =>
  sources.patch({
    metadata: { annotations: { "pgevents.dev/rebuild-requested-at": String(performance.now()) } },
  });

/** Looks again and again, and writes nothing. */
async function isQuiet({ metricsUrl }: RunningOperator, model: Model, { sources }: World): Promise<void> {
  if (model.disabled) return; // it does not even look
  await eventually(
    async () => {
      const before = await scrape(metricsUrl);
      for (let look = 1; look <= 2; look += 1) {
        await askToLook(sources);
        await eventually(
          async () => total(await scrape(metricsUrl), RECONCILES) >= total(before, RECONCILES) + look,
        );
      }
      const after = await scrape(metricsUrl);
      const written = [...after].filter(
        ([name, value]) => WRITES.test(name) && value !== (before.get(name) ?? 0),
      );
      assert.deepEqual(written, []);
      return true;
    },
    { what: "an end of writes", timeoutMs: 60_000 },
  );
}

async function play(t: TestContext, seed: number): Promise<void> {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const random = randomFrom(seed);
  const namespace = await testNamespace(t, plane);
  const database = await testDatabase(t);
  await database.query("create table public.orders (id integer primary key)");
  const sources = await sourcesIn(t, plane, namespace);
  const installation = await installChart(t, plane, { watchNamespaces: [namespace] });
  let operator = await startOperator(t, plane, installation, FLAGS);
  const restart = async () => {
    operator.kill(random(2) === 0 ? "SIGKILL" : "SIGTERM");
    await operator.exited;
    // A lease that nobody gave back would have to run out first.
    const leases = `/apis/coordination.k8s.io/v1/namespaces/${installation.namespace}/leases`;
    await sources.cluster.request("DELETE", `${leases}/pg-events-operator`);
    operator = await startOperator(t, plane, installation, FLAGS);
    await ready(operator);
  };
  const world: World = { sources, database, namespace, restart };
  const model: Model = {
    secret: "good",
    wanted: false,
    exists: false,
    suspend: false,
    replicas: 1,
    logLevel: "Info",
    disabled: false,
  };
  await SECRETS.good(world);
  await sources.apply(specOf(model));
  const names = Object.keys(CHANGES);
  for (let round = 1; round <= ROUNDS; round += 1) {
    const drawn = Array.from({ length: 1 + random(3) }, () => names[random(names.length)] as string);
    // Where little can be seen it does not stay for long.
    const first = model.disabled ? ["disabled"] : model.secret !== "good" && random(3) > 0 ? ["secret"] : [];
    const chosen = [...first, ...drawn.filter((name) => !first.includes(name))];
    await t.test(`round ${round}: ${chosen.join(", ")}`, async () => {
      for (const name of chosen) await CHANGES[name]?.(model, world, random);
      await converges(model, world);
      await isQuiet(operator, model, world);
    });
  }
}

for (const seed of [1, 7])
  test(`whatever happens, it converges and then rests (seed ${seed})`, { timeout: 400_000 }, (t) =>
    play(t, seed),
  );
