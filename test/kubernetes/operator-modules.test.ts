import assert from "node:assert/strict";
import { test } from "node:test";
import { startKubelet } from "../support/kubelet.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite();
const saying = (word: string) =>
  `export const onData = (event) => console.log("${word}", event.data.new.id);`;

test("a callback runs the module of a ConfigMap, waits for it, and follows its changes without a restart", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  const path = `/api/v1/namespaces/${scene.namespace}/configmaps/shop`;
  const write = async (text: string) => {
    const body = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "shop" },
      data: { "index.mjs": text },
    };
    const query = "fieldManager=test&force=true";
    const { status } = await scene.cluster.request("PATCH", `${path}?${query}`, {
      body,
      type: "application/apply-patch+yaml",
    });
    assert.ok(status < 300);
  };
  const output = () => kubelet.pods()[0]?.output ?? "";
  await scene.connect();
  const module = { configMapRef: { name: "shop" } };
  const delivery = { attempts: 1000, maxBackoffSeconds: 1 };
  await scene.apply({ callbacks: [{ name: "orders", module, delivery }] });
  const { message } = await scene.waitFor("CredentialsResolved", "False", "SecretNotAllowed");
  assert.match(
    message,
    /^Secret shop-db is sent to a callback, or in reach of a module, so it needs the label/,
  );
  await scene.writeSecret(secretData(scene.database.settings), { labels: { "pgevents.dev/allow": "true" } });
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
  await scene.database.query("insert into public.orders values (1, 1)");
  await eventually(() => /"delivery failed"/.test(output()));
  assert.match(output(), /there is no file \/etc\/pg-events\/modules\/shop\/index\.mjs/);

  await write(saying("first"));
  await eventually(() => /^first 1$/m.test(output()), { what: "the event that waited" });
  await write(saying("second"));
  await eventually(async () => {
    await scene.database.query("insert into public.orders select max(id) + 1, 1 from public.orders");
    return /^second \d+$/m.test(output());
  });
  assert.equal(kubelet.pods().length, 1);
  assert.equal(kubelet.pods()[0]?.restarts, 0);
});
