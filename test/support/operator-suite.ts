/** One operator for all tests of a file; a namespace and a database of its own for each test. */
import { after, before, type TestContext } from "node:test";
import { type ApiProxy, startApiProxy } from "./api-proxy.ts";
import { type ControlPlane, testNamespace, useControlPlane } from "./control-plane.ts";
import { type Installation, installChart, type RunningOperator, ready, startOperator } from "./operator.ts";
import { type TestDatabase, testDatabase } from "./postgres.ts";
import { type Sources, secretData, sourcesIn } from "./sources.ts";

export interface Scene extends Sources {
  readonly plane: ControlPlane;
  readonly operator: RunningOperator;
  readonly installation: Installation;
  /** Between the operator and the API server, if the suite asks for one. */
  readonly proxy: ApiProxy;
  readonly namespace: string;
  /** Holds a table public.orders. */
  readonly database: TestDatabase;
  /** Creates the connection Secret `shop-db` for the database. */
  connect(): Promise<void>;
  /** Asks the operator to look at the source at once. */
  askToLook(name?: string): Promise<void>;
  /** How many triggers of capture each table has. */
  triggers(): Promise<Record<string, number>>;
}

/** What `triggers` says when `public.orders` is captured, and nothing else. */
export const ORDERS_CAPTURED = { orders: 4 };

export interface SuiteOptions {
  /** Added to the chart's, and stronger. */
  readonly flags?: readonly string[];
  /** Of the chart. */
  readonly values?: object;
  readonly proxy?: boolean;
}

export interface OperatorSuite {
  /** Null, with the test skipped, where there is no control plane. */
  scene(t: TestContext, labels?: Readonly<Record<string, string>>): Promise<Scene | null>;
}

const TRIGGERS =
  "select tgrelid::regclass::text as table, count(*)::integer from pg_trigger where not tgisinternal group by 1 order by 1";

export function operatorSuite({
  flags = [],
  values = {},
  proxy: wantsProxy = false,
}: SuiteOptions = {}): OperatorSuite {
  const endings: (() => Promise<void> | void)[] = [];
  const file = { after: (work: () => Promise<void> | void) => void endings.unshift(work) };
  let plane: ControlPlane | null = null;
  let installation: Installation;
  let operator: RunningOperator;
  let proxy: ApiProxy | null = null;
  let missing = "";
  before(async () => {
    plane = await useControlPlane({
      skip: (message) => {
        missing = message;
      },
    });
    if (plane === null) return;
    if (wantsProxy) proxy = await startApiProxy(file, plane);
    installation = await installChart(file, plane, values);
    operator = await startOperator(
      file,
      proxy === null ? plane : { ...plane, ...proxy.server },
      installation,
      flags,
    );
    await operator.waitForLine(/"leading"/);
    await ready(operator);
  });
  after(async () => {
    for (const end of endings) await end();
  });
  return {
    async scene(t, labels) {
      if (plane === null) {
        t.skip(missing);
        return null;
      }
      const database = await testDatabase(t, { owner: true });
      await database.query("create table public.orders (id integer primary key, total numeric)");
      const namespace = await testNamespace(t, plane, labels);
      const sources = await sourcesIn(t, plane, namespace);
      return {
        ...sources,
        plane,
        operator,
        installation,
        get proxy() {
          if (proxy === null) throw new Error("this suite has no proxy");
          return proxy;
        },
        namespace,
        database,
        connect: () => sources.writeSecret(secretData(database.settings)),
        askToLook: (name) => {
          const annotations = { "pgevents.dev/rebuild-requested-at": new Date().toISOString() };
          return sources.patch({ metadata: { annotations } }, name);
        },
        async triggers() {
          const { rows } = await database.query<{ table: string; count: number }>(TRIGGERS);
          return Object.fromEntries(rows.map(({ table, count }) => [table, count]));
        },
      };
    },
  };
}
