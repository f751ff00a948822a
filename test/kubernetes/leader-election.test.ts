import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { KubeConfig } from "@kubernetes/client-node";
import { KubernetesClient, type KubernetesObject, loadKubeConfig } from "../../src/kubernetes/client.ts";
import { LeaderElection, microTime } from "../../src/kubernetes/leader-election.ts";
import { startApiProxy } from "../support/api-proxy.ts";
import { type ControlPlane, testNamespace, useControlPlane } from "../support/control-plane.ts";
import { eventually } from "../support/processes.ts";

interface Lease extends KubernetesObject {
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

interface Candidate {
  readonly election: LeaderElection;
  /** The epochs it was elected with. */
  readonly epochs: number[];
  readonly failures: string[];
  /** Ends it in order, as SIGTERM does. */
  stop(): Promise<void>;
}

interface Scene {
  readonly plane: ControlPlane;
  /** What happened, in order: `a elected`, `a lost`. */
  readonly story: string[];
  readonly client: KubernetesClient;
  readonly leasePath: string;
  candidate(
    identity: string,
    options?: { config?: () => KubeConfig; seconds?: [number, number, number] },
  ): Candidate;
  lease(): Promise<Lease>;
}

/** Lease duration, renew deadline, retry period. */
const QUICK: [number, number, number] = [3, 2, 0.2];

async function scene(t: TestContext): Promise<Scene | null> {
  const plane = await useControlPlane(t);
  if (plane === null) return null;
  const namespace = await testNamespace(t, plane);
  const story: string[] = [];
  const direct = () => loadKubeConfig(plane.kubeconfig);
  const client = new KubernetesClient(direct);
  t.after(() => client.close());
  const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/operator`;
  return {
    plane,
    story,
    client,
    leasePath,
    lease: () => client.get<Lease>(leasePath),
    candidate(identity, { config = direct, seconds: [duration, deadline, retry] = QUICK } = {}) {
      const own = new KubernetesClient(config);
      const ending = new AbortController();
      const [epochs, failures]: [number[], string[]] = [[], []];
      const election = new LeaderElection({
        client: own,
        namespace,
        name: "operator",
        identity,
        leaseDurationSeconds: duration,
        renewDeadlineSeconds: deadline,
        retryPeriodSeconds: retry,
        onElected: (epoch) => {
          story.push(`${identity} elected`);
          epochs.push(epoch);
        },
        onLost: () => story.push(`${identity} lost`),
        onFailure: (error) => failures.push(error.name),
      });
      const running = election.run(ending.signal);
      const stop = async () => {
        ending.abort();
        await running;
        await own.close();
      };
      t.after(stop);
      return { election, epochs, failures, stop };
    },
  };
}

test("of two candidates one leads; when it ends in order the other follows without waiting for the lease to run out", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const seconds: [number, number, number] = [3600, 60, 0.2];
  const first = s.candidate("first", { seconds });
  await eventually(() => first.election.holdsSafely);
  const second = s.candidate("second", { seconds });
  const { spec } = await s.lease();
  assert.equal(spec.holderIdentity, "first");
  assert.match(spec.renewTime ?? "", /\.\d{6}Z$/);
  await eventually(async () => (await s.lease()).spec.renewTime !== spec.renewTime, { what: "a renewal" });
  await eventually(() => second.election.reached);
  assert.equal(second.election.isLeader, false);
  assert.equal((await s.lease()).spec.acquireTime, spec.acquireTime);

  await first.stop();
  assert.equal(first.election.isLeader, false);
  await eventually(() => second.election.holdsSafely);
  assert.deepEqual(s.story, ["first elected", "second elected"]);
  assert.ok((second.epochs[0] as number) > (first.epochs[0] as number), "the epoch grows");
  await second.stop();
  assert.equal((await s.lease()).spec.holderIdentity, "");
});

test("a leader that cannot reach the API server knows before another takes over, although its requests hang", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const proxy = await startApiProxy(t, s.plane);
  const cut = s.candidate("cut", { config: proxy.config });
  await eventually(() => cut.election.holdsSafely);
  const other = s.candidate("other");
  await eventually(() => other.election.reached);
  let safeAtTakeover: boolean | undefined;
  proxy.intercept = () => true; // nothing is answered any more
  await eventually(() => {
    if (other.election.isLeader) safeAtTakeover ??= cut.election.holdsSafely;
    return other.election.isLeader;
  });
  assert.equal(safeAtTakeover, false);
  assert.deepEqual(s.story, ["cut elected", "cut lost", "other elected"]);
  assert.notEqual(cut.failures.length, 0);
  assert.ok((other.epochs[0] as number) > (cut.epochs[0] as number));
});

test("a leader that meets errors for a while goes on leading", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const proxy = await startApiProxy(t, s.plane);
  const leader = s.candidate("leader", { config: proxy.config, seconds: [60, 50, 0.2] });
  await eventually(() => leader.election.holdsSafely);
  const { renewTime } = (await s.lease()).spec;
  let refused = 0;
  proxy.intercept = () => {
    refused += 1;
    if (refused > 6) proxy.intercept = null;
    proxy.cut();
    return true;
  };
  await eventually(async () => refused > 6 && (await s.lease()).spec.renewTime !== renewTime);
  assert.deepEqual(s.story, ["leader elected"]);
});

test("F48 a lease that is renewed is not taken, whatever the times in it say; one that is not is", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  // Its holder's clock is wrong by many years.
  const record = (renewTime: string) => ({
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: "operator" },
    spec: { holderIdentity: "skewed", leaseDurationSeconds: 2, leaseTransitions: 7, renewTime },
  });
  await s.client.create(s.leasePath.replace(/\/operator$/, ""), record("2001-01-01T00:00:00.000000Z"));
  const candidate = s.candidate("candidate", { seconds: [2, 1.5, 0.1] });
  const startedMs = performance.now();
  let renewals = 0;
  await eventually(async () => {
    renewals += 1;
    const second = String(renewals % 60).padStart(2, "0");
    const { spec } = record(
      `2001-01-01T00:${String(Math.floor(renewals / 60)).padStart(2, "0")}:${second}.000000Z`,
    );
    await s.client.mergePatch(s.leasePath, { spec });
    return performance.now() - startedMs > 5000;
  });
  assert.deepEqual(s.story, []);
  await eventually(() => candidate.election.isLeader);
  assert.equal((await s.lease()).spec.leaseTransitions, 8);
});

test("who finds the lease in another's name has lost it at once", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const leader = s.candidate("leader", { seconds: [60, 50, 0.1] });
  await eventually(() => leader.election.isLeader);
  await eventually(async () => {
    await s.client.mergePatch(s.leasePath, { spec: { holderIdentity: "thief" } });
    return !leader.election.isLeader;
  });
  assert.deepEqual(s.story, ["leader elected", "leader lost"]);
  assert.equal(leader.election.holdsSafely, false);
  assert.equal((await s.lease()).spec.holderIdentity, "thief");
});

test("who finds the lease in nobody's name does not go on under the old epoch", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const leader = s.candidate("leader", { seconds: [60, 50, 0.1] });
  await eventually(() => leader.election.isLeader);
  await eventually(async () => {
    await s.client.mergePatch(s.leasePath, { spec: { holderIdentity: "" } });
    return !leader.election.isLeader;
  });
  assert.deepEqual(s.story, ["leader elected", "leader lost"]);
});

test("the epoch of a lease that was deleted and made again is above all before", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  let last = 0;
  for (let term = 0; term < 3; term += 1) {
    const candidate = s.candidate(`term-${term}`);
    await eventually(() => candidate.election.isLeader);
    assert.ok((candidate.epochs[0] as number) > last);
    last = candidate.epochs[0] as number;
    await candidate.stop();
  }
  const { creationTimestamp = "" } = (await s.lease()).metadata;
  await s.client.delete(s.leasePath);
  // Leaders do not change every second; this test just did.
  await eventually(() => Date.now() - Date.parse(creationTimestamp) > 4000);
  const candidate = s.candidate("after");
  await eventually(() => candidate.election.isLeader);
  assert.equal((await s.lease()).spec.leaseTransitions ?? 0, 0);
  assert.ok((candidate.epochs[0] as number) > last);
});

test("a lease that is deleted under its leader is made again, with a new epoch", async (t) => {
  const s = await scene(t);
  if (s === null) return;
  const leader = s.candidate("leader", { seconds: [60, 50, 0.1] });
  await eventually(() => leader.election.isLeader);
  const { creationTimestamp = "" } = (await s.lease()).metadata;
  await eventually(() => Date.now() - Date.parse(creationTimestamp) > 2000);
  await s.client.delete(s.leasePath);
  await eventually(async () => (await s.lease().catch(() => null))?.spec.holderIdentity === "leader");
  await eventually(() => leader.epochs.length === 2);
  assert.ok((leader.epochs[1] as number) > (leader.epochs[0] as number));
  assert.equal(leader.election.holdsSafely, true);
});

test("a MicroTime has six digits after the second", () => {
  assert.equal(microTime(new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 6))), "2026-01-02T03:04:05.006000Z");
  assert.equal(microTime(new Date(0)), "1970-01-01T00:00:00.000000Z");
});
