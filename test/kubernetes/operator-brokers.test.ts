import assert from "node:assert/strict";
import { test } from "node:test";
import { createStream, storedMessages } from "../callbacks/nats-endpoint.ts";
import { natsMissing, natsServer } from "../support/brokers/nats-server.ts";
import { startKubelet } from "../support/kubelet.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress } from "../support/receiver.ts";

const suite = operatorSuite();
const ALLOWED = { "pgevents.dev/allow": "true" };

test("a callback to NATS logs in with its Secret, once that is there, whole and allowed", {
  skip: await natsMissing(),
}, async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await startKubelet(t, scene.plane, scene.namespace);
  const login = { user: "shop", pass: "s3cret-4711" };
  const users = `authorization { user: ${login.user}, password: "${login.pass}" }`;
  const server = await natsServer(t, users, reachableAddress());
  await createStream(server, {}, login);
  await scene.connect();
  const auth = { login: { secretRef: { name: "nats" } } };
  await scene.apply({ callbacks: [{ name: "stream", nats: { servers: [server.url], auth } }] });

  const absent = await scene.waitFor("CredentialsResolved", "False", "SecretNotFound");
  assert.match(absent.message, /^Secret nats does not exist/);
  await scene.writeSecret({ username: login.user }, { name: "nats", labels: ALLOWED });
  await scene.askToLook();
  const part = await scene.waitFor("CredentialsResolved", "False", "SecretInvalid");
  assert.equal(part.message, "Secret nats has no key password.");
  const whole = { username: login.user, password: login.pass };
  await scene.writeSecret(whole, { name: "nats", labels: { "pgevents.dev/allow": "false" } });
  await scene.askToLook();
  const refused = await scene.waitFor("CredentialsResolved", "False", "SecretNotAllowed");
  assert.match(refused.message, /^Secret nats is sent to a callback.*needs the label pgevents\.dev\/allow/);
  await scene.writeSecret(whole, { name: "nats", labels: ALLOWED });
  await scene.askToLook();

  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
  await scene.database.query("insert into public.orders values (1, 1)");
  await eventually(async () => (await storedMessages(server, login)).length === 1);
  const source = await scene.get();
  assert.equal(source?.status?.callbacks?.[0]?.uri, `${server.url}/pgevents.{schema}.{table}.{operation}`);
  assert.doesNotMatch(JSON.stringify([source, await scene.deployment()]), /4711/);
  await scene.writeSecret({ ...whole, password: "another-0815" }, { name: "nats", labels: ALLOWED });
  await scene.askToLook();
  await eventually(async () => (await scene.events()).some((event) => /SecretRotated/.test(event)));
});

test("an expression that is none makes the spec invalid, with the place; one that is mended is built", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  const callback = (expression: string) => ({
    callbacks: [{ name: "orders", http: { uri: "http://receiver.example/" }, filter: { expression } }],
  });
  await scene.apply(callback("row.total > 100 && rows.id == 1"));
  const invalid = await scene.waitFor("Built", "False", "InvalidSpec");
  assert.match(
    invalid.message,
    /spec\.callbacks\[0\]\.filter\.expression: column 20: Unknown variable: rows/,
  );
  await scene.apply(callback("row.total > 100 && row.id == 1"));
  await scene.waitFor("Built", "True");
});
