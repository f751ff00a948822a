import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pgEventSourceCrd } from "../../scripts/generate/crd.ts";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { PgEventsError } from "../../src/core/errors.ts";
import { type ClusterRequests, clusterRequests } from "../support/cluster-requests.ts";
import { type Manifest, RULE_CASES, SHAPE_CASES, source, UPDATE_CASES } from "../support/crd-cases.ts";
import { readSamples } from "../support/samples.ts";

const CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAMESPACE = "crd-rules";
const SOURCES = `/apis/pgevents.dev/v1alpha1/namespaces/${NAMESPACE}/pgeventsources`;
const DRY_RUN = "dryRun=All&fieldValidation=Strict";

let cluster: ClusterRequests;

const create = (manifest: Manifest) => cluster.request("POST", `${SOURCES}?${DRY_RUN}`, { body: manifest });

before(async () => {
  cluster = await clusterRequests(process.env.KUBECONFIG ?? "");
  const crd = pgEventSourceCrd();
  const applied = await cluster.request(
    "PATCH",
    `${CRDS}/${crd.metadata.name}?fieldManager=test&force=true&fieldValidation=Strict`,
    {
      body: crd,
      type: "application/apply-patch+yaml",
    },
  );
  assert.ok(applied.status === 200 || applied.status === 201, JSON.stringify(applied.body));
  await established(crd.metadata.name);
  await cluster.request("POST", "/api/v1/namespaces", { body: { metadata: { name: NAMESPACE } } });
});

after(async () => {
  await cluster.request("DELETE", `/api/v1/namespaces/${NAMESPACE}`);
  cluster.close();
});

test("the API server has no remark about the structure of the CRD", async () => {
  const { body } = await cluster.request("GET", `${CRDS}/${pgEventSourceCrd().metadata.name}`);
  const types = body.status.conditions.filter((condition: { status: string }) => condition.status === "True");
  assert.deepEqual(types.map((condition: { type: string }) => condition.type).sort(), [
    "Established",
    "NamesAccepted",
  ]);
});

describe("the API server runs each CEL rule", () => {
  for (const { rule, accepted, refused } of RULE_CASES) {
    test(rule, async () => {
      for (const manifest of accepted) {
        const { status, body } = await create(manifest);
        assert.equal(status, 201, body.message);
      }
      for (const manifest of refused) assertRefused(await create(manifest), rule, manifest);
    });
  }
});

describe("the API server compares an update with what is stored", () => {
  for (const { rule, stored, accepted, refused } of UPDATE_CASES) {
    test(rule, async () => {
      const { status, body } = await cluster.request("POST", SOURCES, { body: stored });
      assert.equal(status, 201, body.message);
      const replace = (manifest: Manifest) => {
        const metadata = { ...manifest.metadata, resourceVersion: body.metadata.resourceVersion };
        return cluster.request("PUT", `${SOURCES}/${stored.metadata.name}?${DRY_RUN}`, {
          body: { ...manifest, metadata },
        });
      };
      for (const manifest of accepted) assert.equal((await replace(manifest)).status, 200);
      for (const manifest of refused) assertRefused(await replace(manifest), rule, manifest);
      await cluster.request("DELETE", `${SOURCES}/${stored.metadata.name}`);
    });
  }
});

describe("the API server takes the shapes that parse takes", () => {
  for (const { title, manifest, accepted } of SHAPE_CASES) {
    test(`${accepted ? "accepts" : "refuses"} ${title}`, async () => {
      const { status, body } = await create(manifest);
      assert.equal(accepted, status === 201, body.message);
    });
  }
});

test("defaults of the API server are those of parse", async () => {
  const accepted = [
    ...RULE_CASES.flatMap((rule) => rule.accepted),
    ...SHAPE_CASES.filter((shape) => shape.accepted).map((shape) => shape.manifest),
  ];
  for (const manifest of [...accepted, ...readSamples()]) {
    const { body } = await create(manifest);
    assert.deepEqual(body.spec, plain(parsePgEventSource(manifest, "the case").spec));
  }
});

test("the API server and parse agree about every field of the full sample with odd values in it", async () => {
  const full = readSamples().find((sample) => sample.metadata.name === "shop-full");
  assert.ok(full !== undefined);
  const changed = pathsIn(full.spec).flatMap((path) =>
    ODD_VALUES.map((value) => ({ path, value, spec: alone(replaced(full.spec, path, value), path) })),
  );
  assert.ok(changed.length > 1000);
  const differences: string[] = [];
  await inParallel(8, changed, async ({ path, value, spec }) => {
    const manifest = source(spec, "odd");
    const answer = await create(manifest);
    const local = localVerdict(manifest);
    const server = answer.status === 201 ? JSON.stringify(sorted(answer.body.spec)) : "refused";
    if (local !== server)
      differences.push(`${path.join(".")} = ${JSON.stringify(value)}: ${firstDifference(local, server)}`);
  });
  assert.deepEqual(differences, []);
});

const ODD_VALUES = [
  undefined,
  null,
  "",
  "x",
  "*",
  "a b",
  "Ä",
  "0",
  -1,
  0,
  1,
  1.5,
  2 ** 40,
  true,
  [],
  [null],
  ["x", "x"],
  {},
  { x: 1 },
];

type Path = (string | number)[];

function pathsIn(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  const steps = Array.isArray(value) ? value.keys() : Object.keys(value);
  const below = [...steps].flatMap((step) =>
    pathsIn((value as Record<string | number, unknown>)[step], [...path, step]),
  );
  return path.length === 0 ? below : [path, ...below];
}

function replaced(root: Record<string, unknown>, path: Path, value: unknown): Record<string, unknown> {
  const copy = structuredClone(root);
  const parent = path
    .slice(0, -1)
    .reduce(
      (at, step) => at[step] as Record<string | number, unknown>,
      copy as Record<string | number, unknown>,
    );
  const last = path.at(-1) as string | number;
  if (value !== undefined) parent[last] = value;
  else if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return copy;
}

/** Without the callbacks that the path is not about: they would be looked at thousands of times. */
function alone(spec: Record<string, unknown>, [field, index, ...below]: Path): Record<string, unknown> {
  const { callbacks } = spec;
  if (field !== "callbacks" && Array.isArray(callbacks)) return { ...spec, callbacks: callbacks.slice(0, 1) };
  if (below.length === 0 || !Array.isArray(callbacks)) return spec;
  return { ...spec, callbacks: [callbacks[Number(index)]] };
}

function localVerdict(manifest: Manifest): string {
  // In the cluster the database is required; parse leaves that to its caller.
  if (manifest.spec.database == null) return "refused";
  try {
    return JSON.stringify(sorted(plain(parsePgEventSource(manifest, "the case").spec)));
  } catch (error) {
    assert.ok(error instanceof PgEventsError, String(error));
    return "refused";
  }
}

const plain = (value: unknown) => JSON.parse(JSON.stringify(value));

/** In a fixed order, and without the nulls that the API server keeps where it preserves unknown fields. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(entriesOf(value).map(([key, field]) => [key, sorted(field)]));
}

const entriesOf = (value: object) =>
  Object.entries(value)
    .filter(([, field]) => field !== null)
    .sort(([a], [b]) => (a < b ? -1 : 1));

function firstDifference(local: string, server: string): string {
  let at = 0;
  while (local[at] === server[at]) at++;
  const around = (text: string) => text.slice(Math.max(0, at - 30), at + 30);
  return `parse …${around(local)}…, API server …${around(server)}…`;
}

function assertRefused(
  { status, body }: { status: number; body: { message: string } },
  rule: string,
  manifest: Manifest,
): void {
  assert.equal(status, 422, `accepted: ${JSON.stringify(manifest.spec)}`);
  assert.ok(body.message.includes(rule), `expected "${rule}" in "${body.message}"`);
}

async function established(name: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const { status } = await cluster.request("GET", SOURCES);
    if (status === 200) return;
    assert.ok(performance.now() < deadline, `${name} was not served within 30 seconds`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function inParallel<T>(width: number, items: T[], run: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const item of rest) await run(item);
    }),
  );
}
