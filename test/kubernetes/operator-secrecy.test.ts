import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { startKubelet } from "../support/kubelet.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite({ flags: ["--log-level=Debug"] });

const TOKEN = "Bearer planted-header-value-1b7c";
const WRONG = "planted-password-that-is-wrong-77aa";
const HOSTILE = "planted'quote\\back\"slash-0d1e";
const ALLOWED = { "pgevents.dev/allow": "true" };

test("planted secrets are in no log, status, event, metric, object, command line or environment", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const { namespace, cluster, operator } = scene;
  const kubelet = await startKubelet(t, scene.plane, namespace);
  let status = 204;
  const receiver = await startReceiver(t, {
    host: reachableAddress(),
    respond: () => ({ status, body: TOKEN }),
  });
  const headers = [{ name: "Authorization", secretKeyRef: { name: "token", key: "value" } }];
  const callbacks = [{ name: "orders", http: { uri: `${receiver.url}/events`, headers } }];
  await scene.writeSecret({ value: TOKEN }, { name: "token", labels: ALLOWED });

  // What goes wrong is where secrets come out.
  await scene.writeSecret({ ...secretData(scene.database.settings), password: HOSTILE, port: HOSTILE });
  await scene.apply({ callbacks });
  await scene.waitFor("CredentialsResolved", "False", "SecretInvalid");
  await scene.writeSecret({ ...secretData(scene.database.settings), password: WRONG });
  await scene.askToLook();
  await scene.waitFor("DatabaseReachable", "False", "AuthenticationFailed");
  await scene.connect();
  await scene.askToLook();
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  await scene.database.query("insert into public.orders values (1, 1)");
  await receiver.waitFor(1);
  assert.equal(receiver.requests[0]?.headers.authorization, TOKEN);
  status = 500; // with the token in its body
  await scene.database.query("insert into public.orders values (2, 1)");
  await eventually(() => /"delivery failed"/.test(kubelet.pods()[0]?.output ?? ""), {
    what: "a failed delivery",
  });
  await eventually(
    async () => {
      await scene.askToLook();
      return (await scene.get())?.status?.callbacks?.[0]?.lastError !== undefined;
    },
    { what: "the failure in the status", timeoutMs: 60_000 },
  );

  const [pod] = kubelet.pods();
  const objects = await Promise.all(
    [
      `/apis/pgevents.dev/v1alpha1/namespaces/${namespace}/pgeventsources`,
      `/apis/apps/v1/namespaces/${namespace}/deployments`,
      `/apis/apps/v1/namespaces/${namespace}/replicasets`,
      ...["pods", "events", "configmaps"].map((plural) => `/api/v1/namespaces/${namespace}/${plural}`),
    ].map(async (path) => [path, JSON.stringify((await cluster.request("GET", path)).body)] as const),
  );
  const processes = [operator.pid, pod?.process?.pid].flatMap((pid) =>
    ["environ", "cmdline"].map(
      (file) => [`${file} of ${pid}`, readFileSync(`/proc/${pid}/${file}`, "utf8")] as const,
    ),
  );
  const written: (readonly [string, string])[] = [
    ["log of the operator", operator.stdout + operator.stderr],
    ["log of the worker", pod?.output ?? ""],
    ["metrics of the operator", await (await fetch(operator.metricsUrl)).text()],
    ["metrics of the worker", await (await fetch(pod?.metricsUrl ?? "")).text()],
    ...objects,
    ...processes,
  ];
  const planted = [TOKEN, WRONG, HOSTILE, scene.database.settings.password ?? ""];
  for (const value of planted) {
    assert.ok(value.length > 8);
    const forms = [
      value,
      JSON.stringify(value).slice(1, -1),
      Buffer.from(value).toString("base64"),
      encodeURIComponent(value),
    ];
    for (const [what, text] of written) {
      assert.ok(text.length > 0, `${what} is empty`);
      for (const form of forms) assert.ok(!text.includes(form), `a secret is in the ${what}`);
    }
  }
});
