/** One operator for all tests of a file; a namespace and a database of its own for each test. */
import { after, before, type TestContext } from "node:test";
import { type ControlPlane, testNamespace, useControlPlane } from "./control-plane.ts";
import { type Installation, installChart, type RunningOperator, startOperator } from "./operator.ts";
import { type TestDatabase, testDatabase } from "./postgres.ts";
import { eventually } from "./processes.ts";
import { type Sources, secretData, sourcesIn } from "./sources.ts";

export interface Scene extends Sources {
  readonly plane: ControlPlane;
  readonly operator: RunningOperator;
  readonly namespace: string;
  /** Holds a table public.orders. */
  readonly database: TestDatabase;
  /** Creates the connection Secret `shop-db` for the database. */
  connect(): Promise<void>;
}

export interface OperatorSuite {
  /** Null, with the test skipped, where there is no control plane. */
  scene(t: TestContext): Promise<Scene | null>;
}

export function operatorSuite(flags: readonly string[] = [], values: object = {}): OperatorSuite {
  const endings: (() => Promise<void> | void)[] = [];
  const file = { after: (work: () => Promise<void> | void) => void endings.unshift(work) };
  let plane: ControlPlane | null = null;
  let operator: RunningOperator;
  let missing = "";
  before(async () => {
    plane = await useControlPlane({
      skip: (message) => {
        missing = message;
      },
    });
    if (plane === null) return;
    const installation: Installation = await installChart(file, plane, values);
    operator = await startOperator(file, plane, installation, flags);
    await operator.waitForLine(/"leading"/);
    await eventually(
      async () => {
        const answer = await fetch(`${operator.probesUrl}/readyz`);
        const text = await answer.text();
        if (!answer.ok) throw new Error(`${text}${operator.stderr}`);
        return true;
      },
      { what: "the operator to be ready" },
    );
  });
  after(async () => {
    for (const end of endings) await end();
  });
  return {
    async scene(t) {
      if (plane === null) {
        t.skip(missing);
        return null;
      }
      const database = await testDatabase(t, { owner: true });
      await database.query("create table public.orders (id integer primary key, total numeric)");
      const namespace = await testNamespace(t, plane);
      const sources = await sourcesIn(t, plane, namespace);
      return {
        ...sources,
        plane,
        operator,
        namespace,
        database,
        connect: () => sources.writeSecret(secretData(database.settings)),
      };
    },
  };
}
