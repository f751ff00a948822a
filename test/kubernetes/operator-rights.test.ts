import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stringify } from "yaml";
import { refuse, startApiProxy } from "../support/api-proxy.ts";
import { type ControlPlane, testNamespace, useControlPlane } from "../support/control-plane.ts";
import { installChart, scrape, startOperator, total } from "../support/operator.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { type Sources, secretData, sourcesIn } from "../support/sources.ts";

async function plain(t: TestContext) {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const database = await testDatabase(t);
  return { plane, database, secret: secretData(database.settings) };
}

test("F56 in some namespaces it needs no ClusterRole, and leaves the others alone", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret } = scene;
  const [watched, other] = [await testNamespace(t, plane), await testNamespace(t, plane)];
  const installation = await installChart(t, plane, { watchNamespaces: [watched] });
  const inside = await sourcesIn(t, plane, watched);
  const outside = await sourcesIn(t, plane, other);
  await inside.writeSecret(secret);
  await outside.writeSecret(secret);
  await outside.apply({ capture: { schemaName: "pgevents_other" } });
  const operator = await startOperator(t, plane, installation);
  await inside.apply();
  await inside.waitFor("Built", "True");
  assert.equal((await outside.get())?.status, undefined);
  const samples = await scrape(operator.metricsUrl);
  assert.equal(total(samples, /^pgevents_api_requests_total.*code="403"/), 0, operator.stderr);
  await inside.remove();
  await inside.waitUntilGone();
});

test("F10 a right that is taken away changes no status; it works on when the right is back", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret } = scene;
  const namespace = await testNamespace(t, plane);
  const sources = await sourcesIn(t, plane, namespace);
  await sources.writeSecret(secret);
  const operator = await startOperator(
    t,
    plane,
    await installChart(t, plane, { watchNamespaces: [namespace] }),
    ["--resync-seconds=1"],
  );
  await sources.apply();
  await sources.waitFor("Built", "True");
  const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/roles`;
  const role = (await sources.cluster.request("GET", path)).body.items[0];
  const patch = (rules: object[]) =>
    sources.cluster.request("PATCH", `${path}/${role.metadata.name}`, {
      body: { rules },
      type: "application/merge-patch+json",
    });
  await eventually(async () => (await sources.get())?.status?.worker?.replicas === 1, { what: "its pod" });
  const before = (await sources.get())?.status;
  await patch(role.rules.filter(({ resources }: { resources: string[] }) => !resources.includes("secrets")));
  await eventually(
    async () =>
      total(
        await scrape(operator.metricsUrl),
        /^pgevents_api_requests_total.*resource="secrets",code="403"/,
      ) > 0,
  );
  assert.deepEqual((await sources.get())?.status, before);
  await patch(role.rules);
  await sources.apply({ capture: { tables: [{ schema: "public", name: "missing" }] } });
  await sources.waitFor("Built", "False", "TableNotFound");
});

test("every right that the chart gives is used, and no request is refused", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret, database } = scene;
  const namespace = await testNamespace(t, plane);
  const sources = await sourcesIn(t, plane, namespace);
  const proxy = await startApiProxy(t, plane);
  const installation = await installChart(t, plane, { watchNamespaces: [namespace] });
  const operator = await startOperator(t, { ...plane, ...proxy.server }, installation);
  await operator.waitForLine(/"leading"/);
  let conflicts = 0;
  proxy.intercept = (request, response) => {
    const isStatus = request.method === "PATCH" && request.url?.includes("/shop/status") === true;
    conflicts += isStatus ? 1 : 0;
    return isStatus && conflicts === 1 && refuse(response, 409);
  };
  await database.query("create table public.orders (id integer primary key)");
  const callbacks = [{ name: "orders", http: { ref: { name: "stock" } } }];
  const look = (time: string) =>
    sources.patch({ metadata: { annotations: { "pgevents.dev/rebuild-requested-at": time } } });
  await sources.apply({ callbacks });
  await sources.waitFor("Ready", "False", "SecretNotFound");
  // Twice the same, so that the count of an event is raised.
  await sources.writeSecret({ ...secret, port: "x" });
  await look("1");
  await sources.waitFor("Ready", "False", "SecretInvalid");
  await sources.cluster.request("DELETE", `/api/v1/namespaces/${namespace}/secrets/shop-db`);
  await look("2");
  await sources.waitFor("Ready", "False", "SecretNotFound");
  await sources.writeSecret(secret);
  await look("3");
  await sources.waitFor("Built", "True");
  await eventually(() => sources.deployment());
  await sources.apply({ capture: { schemaName: "pgevents_by_hand", install: "Manual" } }, "by-hand");
  await sources.waitFor("Built", "False", "ManualInstallPending", { name: "by-hand" });
  await sources.remove();
  await sources.waitUntilGone();

  const granted = (await rightsOf(sources, namespace, installation.namespace)).sort();
  // The Lease is renewed after two seconds, and all of the above may have taken less.
  await eventually(
    () => {
      const used = new Set(proxy.requests.flatMap(rightOf));
      assert.deepEqual(
        granted.filter((right) => !used.has(right)),
        UNSEEN,
      );
      return true;
    },
    { what: "a request for every right" },
  );
  assert.equal(total(await scrape(operator.metricsUrl), /^pgevents_api_requests_total.*code="403"/), 0);

  // What the record of requests does not show is missed when it is taken away.
  const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/roles`;
  const [role] = (await sources.cluster.request("GET", path)).body.items;
  for (const [index, right] of UNSEEN.entries()) {
    const [resource = "", verb = ""] = right.split(" ");
    const rules = role.rules.map((rule: Rule) =>
      rule.resources.includes(resource) ? { ...rule, verbs: rule.verbs.filter((one) => one !== verb) } : rule,
    );
    const patch = (body: object) =>
      sources.cluster.request("PATCH", `${path}/${role.metadata.name}`, {
        body,
        type: "application/merge-patch+json",
      });
    await patch({ rules: rules.filter(({ verbs }: Rule) => verbs.length > 0) });
    const name = `without-${index}`;
    await sources.apply({ capture: { schemaName: `pgevents_${index}` } }, name);
    const { message } = await sources.waitFor("Deployed", "False", "DeploymentFailed", { name });
    assert.match(message, /forbidden/);
    await patch({ rules: role.rules });
  }
});

/** A write that makes the Deployment shows as a patch; the finalizers are asked for by the API server itself. */
const UNSEEN = ["deployments create", "pgeventsources/finalizers update"];

interface Rule {
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

async function rightsOf({ cluster }: Sources, ...namespaces: string[]): Promise<string[]> {
  const rights: string[] = [];
  for (const namespace of namespaces) {
    const { body } = await cluster.request(
      "GET",
      `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/roles`,
    );
    for (const { rules } of body.items as { rules: Rule[] }[]) {
      for (const { resources, verbs } of rules)
        for (const resource of resources) rights.push(...verbs.map((verb) => `${resource} ${verb}`));
    }
  }
  return [...new Set(rights)];
}

/** `resource verb` of a request, as RBAC names them. */
function rightOf(request: string): string[] {
  const [method = "", url = ""] = request.split(" ");
  const { pathname, searchParams } = new URL(url, "https://x");
  const [, resource = "", name, subresource] =
    /\/namespaces\/[^/]+\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(pathname) ?? [];
  if (resource === "") return [];
  const reading = name !== undefined ? "get" : searchParams.has("watch") ? "watch" : "list";
  const verbs: Record<string, string> = {
    GET: reading,
    POST: "create",
    PUT: "update",
    PATCH: "patch",
    DELETE: "delete",
  };
  return [`${resource}${subresource === undefined ? "" : `/${subresource}`} ${verbs[method]}`];
}

test("F11 a token that ends, and a file that is away for a moment, are survived with the next token", async (t) => {
  const scene = await plain(t);
  if (scene === null) return;
  const { plane, secret } = scene;
  const namespace = await testNamespace(t, plane);
  const sources = await sourcesIn(t, plane, namespace);
  await sources.writeSecret(secret);
  const installation = await installChart(t, plane, { watchNamespaces: [namespace] });
  const home = `/api/v1/namespaces/${installation.namespace}`;
  /** A token that ends with a Secret. */
  const tokenOf = async (name: string): Promise<string> => {
    const made = await sources.cluster.request("POST", `${home}/secrets`, { body: { metadata: { name } } });
    const boundObjectRef = { apiVersion: "v1", kind: "Secret", name, uid: made.body.metadata.uid };
    const path = `${home}/serviceaccounts/${installation.account}/token`;
    const { body } = await sources.cluster.request("POST", path, { body: { spec: { boundObjectRef } } });
    return body.status.token;
  };
  const directory = mkdtempSync(join(tmpdir(), "pg-events-token-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const tokenFile = join(directory, "token");
  writeFileSync(tokenFile, await tokenOf("first"));
  const kubeconfig = join(directory, "kubeconfig");
  writeFileSync(kubeconfig, stringify(configWith(plane, tokenFile)));
  const flags = [
    `--kubeconfig=${kubeconfig}`,
    "--lease-duration-seconds=120",
    "--renew-deadline-seconds=100",
  ];
  const operator = await startOperator(t, plane, installation, [...flags, "--resync-seconds=1"]);
  await sources.apply();
  await sources.waitFor("Built", "True");

  await sources.cluster.request("DELETE", `${home}/secrets/first`);
  rmSync(tokenFile);
  const refused = async () =>
    total(await scrape(operator.metricsUrl), /^pgevents_api_requests_total.*code="401"/);
  await eventually(async () => (await refused()) > 0, { what: "a token that is refused", timeoutMs: 60_000 });
  writeFileSync(tokenFile, await tokenOf("second"));
  await sources.apply({ capture: { tables: [{ schema: "public", name: "missing" }] } });
  await sources.waitFor("Built", "False", "TableNotFound", { timeoutMs: 90_000 });
  assert.doesNotMatch(operator.stderr, /unhandled/);
});

/** Takes the token from a file, as in a pod. */
function configWith({ url, ca }: ControlPlane, tokenFile: string): object {
  const cluster = { server: url, "certificate-authority-data": Buffer.from(ca).toString("base64") };
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster }],
    users: [{ name: "u", user: { "auth-provider": { name: "tokenFile", config: { tokenFile } } } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
}
