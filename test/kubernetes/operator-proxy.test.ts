/** The chart's `proxy`, from its values to a request that goes through the proxy. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { certificateAuthority } from "../support/certificates.ts";
import { connectProxy } from "../support/connect-proxy.ts";
import { type HttpsReceiver, httpsReceiver } from "../support/https-receiver.ts";
import { startKubelet } from "../support/kubelet.ts";
import { operatorSuite } from "../support/operator-suite.ts";
import { eventually } from "../support/processes.ts";
import { reachableAddress, startReceiver } from "../support/receiver.ts";

const address = reachableAddress();
let receiver: HttpsReceiver | null = null;
const proxy = await connectProxy({ after }, () => ({ host: address, port: receiver?.port ?? 9 }), address);
const suite = operatorSuite({
  values: { proxy: { httpsProxy: proxy.url, noProxy: [".svc", "10.96.0.0/12"] } },
});

test("a worker calls https:// receivers through the proxy of the chart's values, and others directly", async (t) => {
  const scene = await suite.scene(t);
  if (scene === null) return;
  await startKubelet(t, scene.plane, scene.namespace);
  const authority = certificateAuthority("own");
  const secure = await httpsReceiver(t, authority, ["orders.example.com"], address);
  receiver = secure;
  const plain = await startReceiver(t, { host: address });
  await scene.connect();
  const allowed = { "pgevents.dev/allow": "true" };
  await scene.writeSecret({ "ca.crt": authority.cert }, { name: "receiver", labels: allowed });
  const tls = { caSecretRef: { name: "receiver", key: "ca.crt" } };
  await scene.apply({
    callbacks: [
      { name: "outside", http: { uri: "https://orders.example.com/events", tls } },
      { name: "inside", http: { uri: `${plain.url}/events` } },
    ],
  });
  await scene.waitFor("Ready", "True", "Ready", { timeoutMs: 60_000 });
  await scene.database.query("insert into public.orders values (1, 1)");
  await plain.waitFor(1);
  await eventually(() => secure.received.length === 1, { what: "the event at the receiver outside" });
  assert.deepEqual(proxy.asked, ["orders.example.com:443"]);
  const { env } = (await scene.deployment()).spec.template.spec.containers[0];
  const set = (name: string) => env.find((one: { name: string }) => one.name === name)?.value;
  assert.deepEqual(
    [set("PG_EVENTS_HTTPS_PROXY"), set("PG_EVENTS_NO_PROXY")],
    [proxy.url, ".svc,10.96.0.0/12"],
  );
});
