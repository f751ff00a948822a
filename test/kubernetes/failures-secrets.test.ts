import assert from "node:assert/strict";
import { test } from "node:test";
import { countingProxy } from "../support/counting-proxy.ts";
import { assertHidden } from "../support/hidden.ts";
import { startKubelet } from "../support/kubelet.ts";
import { scrape, total } from "../support/operator.ts";
import { ORDERS_CAPTURED, operatorSuite, type Scene } from "../support/operator-suite.ts";
import { connect } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";
import { secretData } from "../support/sources.ts";

const suite = operatorSuite();

test("F13 a value that cannot be used is named by its key only, and the workers keep what they have", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Built", "True");
  const { metadata } = await eventually(() => scene.deployment());
  const good = Object.entries(secretData(scene.database.settings));
  const write = async (key: string, value: Buffer | null) => {
    const kept = good
      .filter(([name]) => name !== key)
      .map(([name, text]) => [name, Buffer.from(text)] as const);
    const entries = value === null ? kept : [...kept, [key, value] as const];
    const data = Object.fromEntries(entries.map(([name, bytes]) => [name, bytes.toString("base64")]));
    const body = { apiVersion: "v1", kind: "Secret", metadata: { name: "shop-db" }, data };
    const { status } = await scene.cluster.request("PUT", secretPath(scene), { body });
    assert.equal(status, 200);
    await scene.askToLook();
  };
  const cases: [string, Buffer | null, RegExp][] = [
    ["host", null, /Secret shop-db has no key host/],
    ["dbname", Buffer.from(""), /Key dbname of Secret shop-db is empty/],
    ["password", Buffer.from("line-one\r\nline-two"), /Key password of Secret shop-db holds a line break/],
    ["username", Buffer.from([0xc3, 0x28, 0x41, 0x42]), /Key username of Secret shop-db is not UTF-8/],
    ["port", Buffer.from("not-a-port-4711"), /Key port of Secret shop-db is not a port/],
    ["host", Buffer.from("/var/run/secret-socket"), /Key host of Secret shop-db is not a host name/],
  ];
  for (const [key, value, told] of cases) {
    await write(key, value);
    await eventually(
      async () => {
        const { message } = await scene.waitFor("CredentialsResolved", "False", "SecretInvalid");
        assert.match(message, told);
        return true;
      },
      { what: `${told}`, timeoutMs: 30_000 },
    );
  }
  assert.equal((await scene.deployment()).metadata.generation, metadata.generation);
  await assertHidden(scene, [
    "not-a-port-4711",
    "line-one",
    "line-two",
    "secret-socket",
    scene.database.settings.password ?? "",
  ]);
  const password = scene.database.settings.password ?? "";
  await write("password", Buffer.from(`${password}\r\n`));
  await scene.waitFor("Built", "True"); // the end of a line that an editor left is not taken for a part of it
});

test("F14 the Deployment is rolled when a value that it uses changes, and only then", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  await scene.apply();
  const hashOf = async () =>
    (await scene.deployment())?.spec.template.metadata.annotations["pgevents.dev/secrets-hash"];
  const first = await eventually(hashOf);
  await scene.writeSecret({ ...secretData(scene.database.settings), unrelated: "x" });
  await scene.askToLook();
  await scene.waitFor("Built", "True");
  await scene.writeSecret({ ...secretData({ ...scene.database.settings, host: "localhost" }) });
  await scene.askToLook();
  const second = await eventually(async () => {
    const hash = await hashOf();
    return hash !== first && hash;
  });
  assert.notEqual(second, first);
  const rolls = async () => (await scene.events()).filter((event) => event.includes("SecretRotated"));
  await eventually(async () => (await rolls()).length > 0, { what: "an event" });
  assert.equal((await rolls()).length, 1);
});

test("F14 G1 a password that is changed under traffic loses no event, and rolls the workers once", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  const receiver = await startReceiver(t, { host: reachableAddress() });
  await scene.connect();
  await scene.apply({ callbacks: [{ name: "orders", http: { uri: `${receiver.url}/events` } }] });
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 90_000 });
  const [first] = kubelet.pods();
  const admin = await connect(t, scene.database.superuserUrl);
  let written = 0;
  const write = async (count: number) => {
    await admin.query(
      "insert into public.orders select n, n from generate_series($1::integer, $2::integer) as n",
      [written + 1, written + count],
    );
    written += count;
  };
  await write(50);
  await admin.query(`alter role ${scene.database.name} password 'rotated-password'`);
  await write(50);
  await scene.writeSecret(secretData({ ...scene.database.settings, password: "rotated-password" }));
  await scene.askToLook();
  await eventually(
    async () => {
      await write(1); // while the pods change
      const pods = kubelet.pods();
      return pods.length === 1 && pods[0]?.name !== first?.name;
    },
    { what: "the new pod alone", timeoutMs: 90_000 },
  );
  await write(50);
  const ids = () => new Set(receiver.events.map(({ data }) => data.new?.id));
  await receiver.waitFor(() => ids().size === written, 30_000);
  await scene.waitFor("Ready", "True");
  const rolls = (await scene.events()).filter((event) => event.includes("SecretRotated"));
  assert.equal(rolls.length, 1, rolls.join("\n"));
  await assertHidden(scene, ["rotated-password"]);
});

test("F15 a password that is refused is told, is not tried again and again, and rolls no worker", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const logins = await countingProxy(t, scene.database.settings);
  const settings = { ...scene.database.settings, port: logins.port };
  await scene.writeSecret(secretData(settings));
  await scene.apply();
  await scene.waitFor("Built", "True");
  const { metadata } = await eventually(() => scene.deployment());
  await scene.writeSecret(secretData({ ...settings, password: "wrong-password" }));
  await scene.askToLook();
  await scene.waitFor("DatabaseReachable", "False", "AuthenticationFailed");
  const accepted = logins.connections();
  const reconciles = async () => total(await scrape(scene.operator.metricsUrl), /^pgevents_reconcile_total/);
  for (let look = 0; look < 3; look += 1) {
    const before = await reconciles();
    await scene.askToLook();
    await eventually(async () => (await reconciles()) > before, { what: "another reconcile" });
  }
  assert.equal(logins.connections(), accepted, "no login with the same password within half a minute");
  assert.equal((await scene.deployment()).metadata.generation, metadata.generation);
  await assertHidden(scene, ["wrong-password"]);
  await scene.writeSecret(secretData(settings));
  await scene.askToLook();
  await scene.waitFor("Built", "True");
});

test("F16 a Secret that is deleted stops no worker", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  const kubelet = await startKubelet(t, scene.plane, scene.namespace);
  await scene.connect();
  await scene.apply();
  await scene.waitFor("Ready", "True");
  const { metadata } = await scene.deployment();
  await scene.cluster.request("DELETE", `/api/v1/namespaces/${scene.namespace}/secrets/shop-db`);
  await scene.askToLook();
  await scene.waitFor("Ready", "False", "SecretNotFound");
  assert.equal((await scene.deployment()).metadata.generation, metadata.generation);
  assert.deepEqual(
    kubelet.pods().map(({ restarts }) => restarts),
    [0],
  );
  assert.deepEqual(await scene.triggers(), ORDERS_CAPTURED);
  await scene.connect();
  await scene.askToLook();
  await scene.waitFor("Ready", "True");
});

test("a value that leaves the cluster needs the label, and shows nowhere", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await scene.connect();
  const value = "Bearer very-secret-token";
  await scene.writeSecret({ token: value }, { name: "orders-token" });
  const headers = [{ name: "Authorization", secretKeyRef: { name: "orders-token", key: "token" } }];
  await scene.apply({ callbacks: [{ name: "orders", http: { uri: "http://127.0.0.1:9/", headers } }] });
  const { message } = await scene.waitFor("CredentialsResolved", "False", "SecretNotAllowed");
  assert.match(message, /orders-token/);
  assert.match(message, /pgevents\.dev\/allow/);
  await scene.writeSecret(
    { token: value },
    { name: "orders-token", labels: { "pgevents.dev/allow": "true" } },
  );
  await scene.askToLook();
  await scene.waitFor("Built", "True");
  await eventually(() => scene.deployment());
  await assertHidden(scene, [value, scene.database.settings.password ?? ""]);
});

const secretPath = ({ namespace }: Scene) => `/api/v1/namespaces/${namespace}/secrets/shop-db`;
