import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { KubernetesClient, type KubernetesObject, loadKubeConfig } from "../../src/kubernetes/client.ts";
import { EventRecorder, type RecordedEvent } from "../../src/kubernetes/event-recorder.ts";
import { kubectl, testNamespace, useControlPlane } from "../support/control-plane.ts";

interface CoreEvent extends KubernetesObject {
  readonly type: string;
  readonly reason: string;
  readonly message: string;
  readonly count: number;
}

async function scene(t: TestContext) {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const namespace = await testNamespace(t, plane);
  const client = new KubernetesClient(() => loadKubeConfig(plane.kubeconfig));
  t.after(() => client.close());
  const made = (name: string) =>
    client.create<KubernetesObject>(`/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name } });
  const path = `/api/v1/namespaces/${namespace}/events`;
  return {
    plane,
    namespace,
    client,
    path,
    object: { apiVersion: "v1", kind: "ConfigMap", ...(await made("subject")) },
    other: { apiVersion: "v1", kind: "ConfigMap", ...(await made("other")) },
    recorder: new EventRecorder(client, "host_1"),
    events: async () => (await client.get<{ items: CoreEvent[] }>(path)).items,
  };
}

const event = (message: string, reason: RecordedEvent["reason"] = "Built"): RecordedEvent => ({
  type: "Normal",
  reason,
  message,
});

test("an event shows at its object; the same one again raises its count, also at the same time", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await Promise.all([1, 2, 3].map(() => s.recorder.record(s.object, event("Capture was built."))));
  await s.recorder.record(s.object, event("Capture was built."));
  await s.recorder.record(s.object, event("Capture was built differently."));
  await s.recorder.record(s.other, event("Capture was built."));
  const counts = (await s.events()).map(({ message, count }) => `${count} ${message}`).sort();
  assert.deepEqual(counts, [
    "1 Capture was built differently.",
    "1 Capture was built.",
    "4 Capture was built.",
  ]);
  const shown = await kubectl(s.plane, ["describe", "configmap", "subject", "-n", s.namespace]);
  assert.match(shown, /Normal +Built +.*\(x4 over .*\) +pg-events-operator +Capture was built\./);
});

test("an event that the server has forgotten is made again", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.recorder.record(s.object, event("Capture was built."));
  for (const { metadata } of await s.events()) await s.client.delete(`${s.path}/${metadata.name}`);
  await s.recorder.record(s.object, event("Capture was built."));
  assert.deepEqual(
    (await s.events()).map(({ count }) => count),
    [1],
  );
});

test("many messages with one reason share an event that tells the latest", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  for (let round = 1; round <= 13; round += 1) await s.recorder.record(s.object, event(`Message ${round}.`));
  await s.recorder.record(s.object, event("Message 3."));
  await s.recorder.record(s.object, event("Another reason.", "DeploymentCreated"));
  const counts = (await s.events()).map(({ message, count }) => `${count} ${message}`).sort();
  assert.deepEqual(
    counts,
    [
      ...[1, 2, 4, 5, 6, 7, 8, 9, 10].map((round) => `1 Message ${round}.`),
      "1 Another reason.",
      "2 Message 3.",
      "3 (combined from similar events): Message 13.",
    ].sort(),
  );
});

test("an object has a small budget of writes, and does not use up another's", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  await s.recorder.record(s.object, event("Again."));
  for (let round = 0; round < 20; round += 1) await s.recorder.record(s.object, event("Again."));
  for (let round = 0; round < 10; round += 1) await s.recorder.record(s.object, event(`Message ${round}.`));
  await s.recorder.record(s.other, event("Another's."));
  const events = await s.events();
  const writes = events
    .filter(({ message }) => message !== "Another's.")
    .reduce((sum, { count }) => sum + count, 0);
  assert.equal(writes, 25);
  assert.ok(events.some(({ message }) => message === "Another's."));
});

test("news that cannot be told harm nothing", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const gone = { ...s.object, metadata: { ...s.object.metadata, namespace: "no-such-namespace" } };
  await s.recorder.record(gone, event("Nobody sees this."));
  await s.recorder.record(s.object, event("x".repeat(5000)));
  assert.deepEqual(
    (await s.events()).map(({ message }) => message.length),
    [1024],
  );
});
