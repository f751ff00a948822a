import assert from "node:assert/strict";
import { test } from "node:test";
import { kubectl, testNamespace, useControlPlane } from "../support/control-plane.ts";
import { startKubelet } from "../support/kubelet.ts";
import { eventually } from "../support/processes.ts";

/** Serves /readyz, and on /secret what the mounted Secret says now and who asks. */
const PROGRAM = `
  const { readFileSync } = require("node:fs");
  const [host, port] = process.env.PG_EVENTS_PROBES_ADDRESS.split(":");
  process.on("SIGTERM", () => { console.log("told to end"); process.exit(0); });
  require("node:http").createServer((request, response) => {
    const directory = process.env.SECRETS;
    response.end(request.url === "/readyz" ? "ok" : process.env.NAME + " " + process.getuid() + " " + readFileSync(directory + "/db/password", "utf8"));
  }).listen(Number(port), host);`;

const deployment = (namespace: string) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "program", namespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: "program" } },
    template: {
      metadata: { labels: { app: "program" } },
      spec: {
        terminationGracePeriodSeconds: 5,
        containers: [
          {
            name: "program",
            image: "program:1",
            command: ["node", "-e", PROGRAM],
            env: [
              { name: "NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
              { name: "SECRETS", value: "/etc/pg-events-kubelet-test/secrets" },
            ],
            ports: [{ name: "probes", containerPort: 8081 }],
            readinessProbe: { httpGet: { path: "/readyz", port: "probes" } },
            volumeMounts: [
              { name: "tmp", mountPath: "/tmp" },
              { name: "secrets", mountPath: "/etc/pg-events-kubelet-test/secrets" },
            ],
          },
        ],
        volumes: [
          { name: "tmp", emptyDir: {} },
          {
            name: "secrets",
            projected: {
              sources: [{ secret: { name: "db", items: [{ key: "password", path: "db/password" }] } }],
            },
          },
        ],
      },
    },
  },
});

test("a Deployment's pod runs as a process: ready, restarted, with its Secret, told to end", async (t) => {
  const plane = await useControlPlane(t);
  if (plane === null) return;
  const namespace = await testNamespace(t, plane);
  const kubelet = await startKubelet(t, plane, namespace);
  await kubectl(plane, [
    "create",
    "secret",
    "generic",
    "db",
    "--from-literal=password=first",
    "-n",
    namespace,
  ]);
  await kubectl(plane, ["apply", "-f", "-"], { input: JSON.stringify(deployment(namespace)) });
  await kubectl(plane, ["rollout", "status", "deployment/program", "-n", namespace, "--timeout=60s"]);
  const pod = kubelet.pods()[0];
  assert.ok(pod);
  const said = async () => (await fetch(`${pod.probesUrl}/secret`)).text();
  const user = process.getuid?.() === 0 ? 65532 : process.getuid?.();
  assert.equal(await said(), `${pod.name} ${user} first`);

  const second = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "db", namespace },
    stringData: { password: "second" },
  };
  await kubectl(plane, ["apply", "--server-side", "--force-conflicts", "-f", "-"], {
    input: JSON.stringify(second),
  });
  await eventually(async () => (await said()).endsWith("second"));

  pod.process?.kill("SIGKILL");
  const restarts = [
    "get",
    "pod",
    pod.name,
    "-n",
    namespace,
    "-o",
    "jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].ready}",
  ];
  await eventually(async () => (await kubectl(plane, restarts)) === "1true");

  await kubectl(plane, [
    "delete",
    "deployment",
    "program",
    "-n",
    namespace,
    "--cascade=foreground",
    "--timeout=30s",
  ]);
  await eventually(() => kubelet.pods().length === 0);
  assert.match(pod.output, /told to end/);
});
