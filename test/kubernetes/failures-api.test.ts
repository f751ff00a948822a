/** A TLS proxy between a real operator and the real API server makes the faults. */
import assert from "node:assert/strict";
import type { IncomingMessage, ServerResponse } from "node:http";
import { describe, type TestContext, test } from "node:test";
import { type ApiProxy, isWatch, refuse, startApiProxy } from "../support/api-proxy.ts";
import { testNamespace, useControlPlane } from "../support/control-plane.ts";
import { environmentOf } from "../support/deployments.ts";
import { installChart, ready, scrape, startOperator, total } from "../support/operator.ts";
import { operatorSuite, type Scene } from "../support/operator-suite.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";
import { secretData, sourcesIn } from "../support/sources.ts";

/** Long, so that no fault costs the leadership: that is another test's. */
const LEASE = ["--lease-duration-seconds=120", "--renew-deadline-seconds=100"];

/** What the operator of the other tests leaves alone. */
const QUIET = { quiet: "yes" };

type Fault = (response: ServerResponse, request: IncomingMessage) => boolean;

const SILENCE: Fault = (response) => {
  response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
  return true;
};
const errorEvent =
  (code: number): Fault =>
  (response) => {
    const event = { type: "ERROR", object: { kind: "Status", code, reason: "Gone" } };
    response.writeHead(200, { "content-type": "application/json" }).end(`${JSON.stringify(event)}\n`);
    return true;
  };

/** Keeps the Secret in a namespace that is being deleted, to the end of the test. */
async function holdSecret(t: TestContext, { cluster, namespace }: Scene): Promise<void> {
  const hold = (finalizers: string[] | null) =>
    cluster.request("PATCH", `/api/v1/namespaces/${namespace}/secrets/shop-db`, {
      body: { metadata: { finalizers } },
      type: "application/merge-patch+json",
    });
  await hold(["test.pgevents.dev/hold"]);
  t.after(() => hold(null));
}

/** Ends the watches, and meets the next ones with a fault: so many of them, or until it is taken back. */
function meetWatches(
  proxy: ApiProxy,
  fault: Fault,
  { times = Number.POSITIVE_INFINITY, of = "pgeventsources" } = {},
) {
  let met = 0;
  proxy.intercept = (request, response) => {
    if (!isWatch(request) || !request.url?.includes(`/${of}?`) || met >= times) return false;
    met += 1;
    return fault(response, request);
  };
  proxy.endWatches();
  return () => met;
}

describe("between operator and API server", { concurrency: 2 }, () => {
  // Takes as long as a watch may be silent, so it runs beside the others.
  test("F4 a watch that says nothing any more is given up, and what it did not tell is done", {
    timeout: 180_000,
  }, async (t) => {
    const plane = await useControlPlane(t);
    if (plane === null) return;
    const proxy = await startApiProxy(t, plane);
    const namespace = await testNamespace(t, plane);
    const sources = await sourcesIn(t, plane, namespace);
    const database = await testDatabase(t);
    await sources.writeSecret(secretData(database.settings));
    const installation = await installChart(t, plane, { watchNamespaces: [namespace] });
    const operator = await startOperator(t, { ...plane, ...proxy.server }, installation, LEASE);
    await ready(operator);
    await sources.apply({}, "shop", QUIET);
    await sources.waitFor("Built", "True");
    const met = meetWatches(proxy, SILENCE, { times: 1 });
    await eventually(() => met() === 1, { what: "the silent watch", timeoutMs: 60_000 });
    await sources.apply({ capture: { schemaName: "pgevents_later" } }, "later", QUIET);
    const within = { name: "later", timeoutMs: 60_000 };
    await sources.waitFor("CredentialsResolved", "True", undefined, within);
    await sources.waitFor("Built", "True", undefined, within);
  });

  describe("an operator that meets", { concurrency: 1 }, () => {
    const suite = operatorSuite({ proxy: true, flags: [...LEASE, "--label-selector=!quiet"] });

    const built = async (t: TestContext): Promise<Scene | null> => {
      const scene = await suite.scene(t);
      if (scene === null) return null;
      t.after(() => {
        scene.proxy.intercept = null;
        scene.proxy.endWatches();
      });
      await scene.connect();
      await scene.apply();
      await scene.waitFor("Built", "True");
      await eventually(() => scene.deployment());
      return scene;
    };
    const changeIsDone = async (scene: Scene, logLevel: string) => {
      await scene.patch({ spec: { worker: { logLevel } } });
      await eventually(async () => environmentOf(await scene.deployment()).PG_EVENTS_LOG_LEVEL === logLevel, {
        what: `the change to ${logLevel}`,
        timeoutMs: 60_000,
      });
    };

    test("F2 F3 410, 429, 500 and a reset on its watches, one after the other, misses no change", async (t) => {
      const scene = await built(t);
      if (scene === null) return;
      const faults: Fault[] = [
        (response) => refuse(response, 410),
        errorEvent(410),
        (response) => refuse(response, 429),
        (response) => refuse(response, 500),
        (response) => {
          response.destroy();
          return true;
        },
      ];
      let next = 0;
      const met = meetWatches(
        scene.proxy,
        (response, request) => (faults[next++] as Fault)(response, request),
        { times: faults.length },
      );
      await changeIsDone(scene, "Debug");
      await eventually(() => met() === faults.length, { what: "all of the faults", timeoutMs: 60_000 });
      await scene.apply({ capture: { schemaName: "pgevents_later" } }, "later");
      await scene.waitFor("Built", "True", undefined, { name: "later", timeoutMs: 60_000 });
      const failed = total(
        await scrape(scene.operator.metricsUrl),
        /^pgevents_watch_operations_failed_total/,
      );
      assert.ok(failed >= faults.length, `${failed}`);
      assert.doesNotMatch(scene.operator.stderr, /unhandled/);
    });

    test("F3 answers that take seconds is slow, and no more than that", async (t) => {
      const scene = await built(t);
      if (scene === null) return;
      scene.proxy.delayMs = 2000;
      t.after(() => {
        scene.proxy.delayMs = 0;
      });
      await changeIsDone(scene, "Debug");
    });

    test("F5 a load balancer that ends its watches after a second has no blind window", async (t) => {
      const scene = await built(t);
      if (scene === null) return;
      const before = scene.proxy.requests.length;
      const watches = () =>
        scene.proxy.requests
          .slice(before)
          .filter((request) => request.includes("pgeventsources?resourceVersion"));
      const balancer = setInterval(() => scene.proxy.endWatches(), 1000);
      t.after(() => clearInterval(balancer));
      for (const level of ["Debug", "Warn", "Info"]) {
        const { length } = watches();
        await eventually(() => watches().length >= length + 2, { what: "watches that ended" });
        await changeIsDone(scene, level);
      }
      const lists = scene.proxy.requests
        .slice(before)
        .filter((request) => request.includes("pgeventsources?limit"));
      assert.deepEqual(lists, [], "a watch goes on where the one before ended");
    });

    test("F6 a source that was deleted and made anew meanwhile takes it for another one", async (t) => {
      const scene = await suite.scene(t);
      if (scene === null) return;
      t.after(() => {
        scene.proxy.intercept = null;
      });
      await scene.apply();
      await scene.waitFor("Ready", "False", "SecretNotFound");
      const met = meetWatches(scene.proxy, SILENCE);
      await eventually(() => met() > 0, { timeoutMs: 60_000 });
      const first = await scene.get();
      await scene.remove();
      await scene.waitUntilGone();
      await scene.apply();
      assert.equal((await scene.get())?.status, undefined, "nobody has told the operator");
      scene.proxy.intercept = null;
      scene.proxy.endWatches();
      await scene.waitFor("Ready", "False", "SecretNotFound", { timeoutMs: 60_000 });
      assert.notEqual((await scene.get())?.metadata.uid, first?.metadata.uid);
    });

    test("F7 a copy that is behind makes no second Deployment, and writes the first no more than once", async (t) => {
      const scene = await suite.scene(t);
      if (scene === null) return;
      t.after(() => {
        scene.proxy.intercept = null;
        scene.proxy.endWatches();
      });
      const met = meetWatches(scene.proxy, SILENCE, { of: "deployments" });
      await eventually(() => met() > 0, { timeoutMs: 60_000 });
      await scene.connect();
      await scene.apply();
      await scene.waitFor("Built", "True");
      const path = `/apis/apps/v1/namespaces/${scene.namespace}/deployments`;
      const requests = (kind: string) =>
        scene.proxy.requests.filter((one) => one.startsWith(`${kind} ${path}/shop`)).length;
      for (let look = 0; look < 3; look += 1) {
        const before = requests("GET");
        await scene.askToLook();
        await eventually(() => requests("GET") > before, { what: "another look" });
      }
      assert.equal(requests("PATCH"), 1);
      assert.equal((await scene.cluster.request("GET", path)).body.items.length, 1);
    });

    test("F8 conflicts on the status and the finalizer writes again, and tells nobody", async (t) => {
      const scene = await suite.scene(t);
      if (scene === null) return;
      t.after(() => {
        scene.proxy.intercept = null;
      });
      const conflicts = { status: 0, finalizer: 0 };
      scene.proxy.intercept = (request, response) => {
        const of = /PATCH .*\/pgeventsources\/shop(\/status)?\?/.exec(`${request.method} ${request.url}`);
        if (of === null) return false;
        const kind = of[1] === undefined ? "finalizer" : "status";
        if (conflicts[kind] === 3) return false;
        conflicts[kind] += 1;
        return refuse(response, 409);
      };
      await scene.connect();
      await scene.apply();
      await scene.waitFor("Built", "True");
      assert.deepEqual(conflicts, { status: 3, finalizer: 3 });
      const warnings = (await scene.events()).filter((event) => event.startsWith("Warning"));
      assert.deepEqual(warnings, []);
      assert.deepEqual((await scene.get())?.metadata.finalizers, ["pgevents.dev/capture"]);
      assert.doesNotMatch(
        scene.operator.stderr,
        new RegExp(`"source":"${scene.namespace}/shop".*reconcile failed`),
      );
    });

    test("F9 429 with Retry-After waits as long as it is asked to", async (t) => {
      const scene = await built(t);
      if (scene === null) return;
      const attemptsMs: number[] = [];
      scene.proxy.intercept = (request, response) => {
        if (request.method !== "PATCH" || !request.url?.includes("/deployments/shop")) return false;
        attemptsMs.push(performance.now());
        return attemptsMs.length <= 2 && refuse(response, 429, { "retry-after": "1" });
      };
      await changeIsDone(scene, "Debug");
      const [first = 0, second = 0, third = 0] = attemptsMs;
      assert.ok(second - first >= 990 && third - second >= 990, `${attemptsMs}`);
    });

    test("F30 a namespace that is being deleted makes nothing there, and does not ask again and again", async (t) => {
      const scene = await built(t);
      if (scene === null) return;
      // The namespace ends in any order. Without its Secret the source would not come to its Deployment any more.
      await holdSecret(t, scene);
      // Pods that end would be a reason to write the status, and the answer to that tells of the deletion.
      await scene.patch({ spec: { suspend: true } });
      await scene.waitFor("Ready", "False", "Suspended");
      await eventually(async () => (await scene.get())?.status?.worker?.replicas === 0, { what: "no pods" });
      const met = meetWatches(scene.proxy, SILENCE); // it does not hear that the source is to go
      await eventually(() => met() > 0, { timeoutMs: 60_000 });
      const path = `/apis/apps/v1/namespaces/${scene.namespace}/deployments/shop`;
      const attempts = () =>
        scene.proxy.requests.filter((request) => request.startsWith(`PATCH ${path}`)).length;
      const before = attempts();
      await scene.cluster.request("DELETE", `/api/v1/namespaces/${scene.namespace}`);
      await eventually(() => attempts() > before, {
        what: "an attempt to make the Deployment again",
        timeoutMs: 60_000,
      });
      await eventually(
        async () => {
          const source = await scene.get();
          const deployed = source?.status?.conditions?.find(({ type }) => type === "Deployed");
          return deployed?.reason === "DeploymentFailed" && /is being terminated/.test(deployed.message);
        },
        { what: "the refusal in the status" },
      );
      assert.ok(attempts() <= before + 3, `${attempts() - before} attempts`);
      scene.proxy.intercept = null;
      scene.proxy.endWatches();
      await scene.waitUntilGone("shop", 60_000);
    });
  });
});
