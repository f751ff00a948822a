import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { freePort } from "../support/cluster/free-port.ts";
import { eventually, runCli, startCli } from "../support/processes.ts";

const ENVIRONMENT = {
  KUBECONFIG: undefined,
  PG_EVENTS_WORKER_IMAGE: undefined,
  PG_EVENTS_WATCH_NAMESPACES: undefined,
  POD_NAMESPACE: undefined,
};

/** A kubeconfig of an API server that nobody runs. */
async function deadKubeconfig(t: TestContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-operator-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "kubeconfig");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "c",
        cluster: { server: `https://127.0.0.1:${await freePort()}`, "insecure-skip-tls-verify": true },
      },
    ],
    users: [{ name: "u", user: { token: "t" } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

describe("a wrong flag ends with exit code 2 and says what is wrong", () => {
  const cases: [string, string[], RegExp][] = [
    ["no image", ["operator"], /--worker-image/],
    [
      "a namespace",
      ["operator", "--worker-image=x", "--namespaces=shop,No_Name"],
      /"No_Name" is not the name of a namespace/,
    ],
    ["a number", ["operator", "--worker-image=x", "--resync-seconds=soon"], /--resync-seconds.*whole number/],
    [
      "a boolean",
      ["operator", "--worker-image=x", "--require-secret-label=maybe"],
      /--require-secret-label.*true or false/,
    ],
    [
      "a policy",
      ["operator", "--worker-image=x", "--image-pull-policy=Often"],
      /--image-pull-policy.*Always/,
    ],
    [
      "an address",
      ["operator", "--worker-image=x", "--metrics-address=9090"],
      /--metrics-address.*host:port/,
    ],
    [
      "times of the lease",
      ["operator", "--worker-image=x", "--renew-deadline-seconds=15"],
      /--renew-deadline-seconds, and that less/,
    ],
    [
      "a host that is called directly",
      ["worker", "--proxy-except=.svc,*.example.com"],
      /"\*\.example\.com" is no name, address or range/,
    ],
    ["an unknown one", ["operator", "--worker-image=x", "--color"], /unknown option '--color'/],
  ];
  for (const [title, args, message] of cases) {
    test(title, async (t) => {
      const { code, stderr } = await runCli(t, args, { env: ENVIRONMENT });
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n\s+at /, "no stack");
    });
  }
});

test("a proxy with credentials is refused, and they are not printed", async (t) => {
  for (const args of [["operator", "--worker-image=x"], ["worker"]]) {
    const proxy = "--https-proxy=http://me:s3cret@proxy:3128";
    const { code, stdout, stderr } = await runCli(t, [...args, proxy], { env: ENVIRONMENT });
    assert.equal(code, 1);
    assert.match(stderr, /^PGE_FLAG_INVALID: --https-proxy .*: Credentials in it are not supported\./);
    assert.doesNotMatch(stdout + stderr, /s3cret/);
  }
});

test("a kubeconfig that is not there is told without a stack", async (t) => {
  const { code, stderr } = await runCli(t, ["operator", "--worker-image=x", "--kubeconfig=/nonexistent"], {
    env: ENVIRONMENT,
  });
  assert.equal(code, 1);
  assert.match(stderr, /^PGE_KUBECONFIG_INVALID: \/nonexistent.*--kubeconfig or KUBECONFIG/s);
  assert.doesNotMatch(stderr, /\n\s+at /);
});

test("F57 a port that is in use is told", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => void server.close());
  await eventually(() => server.address());
  const { port } = server.address() as { port: number };
  const args = [
    "operator",
    "--worker-image=x",
    `--kubeconfig=${await deadKubeconfig(t)}`,
    `--metrics-address=127.0.0.1:${port}`,
  ];
  const { code, stderr } = await runCli(t, args, { env: ENVIRONMENT });
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`PGE_ADDRESS_IN_USE: --metrics-address: 127.0.0.1:${port} is in use`));
});

test("F1 without an API server it lives, is not ready, says why, and ends when told", async (t) => {
  const probes = `127.0.0.1:${await freePort()}`;
  const args = [
    "operator",
    "--worker-image=x",
    `--kubeconfig=${await deadKubeconfig(t)}`,
    "--metrics-address=127.0.0.1:0",
    `--probes-address=${probes}`,
  ];
  const operator = startCli(t, args, { env: ENVIRONMENT });
  await operator.waitForLine(/API server not reached.*/);
  await operator.waitForLine(/lease not reached/);
  assert.equal((await fetch(`http://${probes}/livez`)).status, 200);
  const ready = await fetch(`http://${probes}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(
    await ready.text(),
    /lease: the Lease was never read or written\nwatches: first lists are not complete/,
  );
  operator.kill("SIGTERM");
  assert.deepEqual(await operator.exited, { code: 0, signal: null });
});
