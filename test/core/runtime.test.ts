import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { createRegistry, serveMetrics, serveProbes } from "../../src/runtime/observability.ts";
import { secretFiles } from "../../src/runtime/secret-files.ts";
import { startProcess } from "../support/processes.ts";

const RUNTIME = join(import.meta.dirname, "../../src/runtime");

describe("the log", () => {
  const log = async (statements: string): Promise<Record<string, unknown>[]> => {
    const program = `import { createLogger, hideSecret, maskSecrets } from "${RUNTIME}/log.ts";
      const log = createLogger("Info", { component: "test" });
      ${statements}`;
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program]);
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    const [code] = await once(child, "close");
    assert.equal(code, 0, text);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  };

  test("is a JSON object a line, with the level's name and the keys", async () => {
    const [line, ...rest] = await log(
      'log.debug({}, "not shown"); log.child({ source: "a/b" }).warn({ count: 1 }, "text");',
    );
    assert.deepEqual(rest, []);
    assert.ok(line);
    const { time, ...fields } = line;
    assert.match(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    assert.deepEqual(fields, { level: "warn", component: "test", source: "a/b", count: 1, msg: "text" });
  });

  test("masks a secret wherever it is, also within another one and with odd characters", async () => {
    const lines = await log(`
      for (const secret of ["hunter2", "hunter2-long", 'quo"te\\\\', "abc"]) hideSecret(secret);
      log.info({ a: "x hunter2 y", b: ["hunter2-long"], error: new Error('quo"te\\\\').message }, "hunter2");
      log.info({ hunter2: 1 }, "abc is too short to be a secret");
      log.info({ url: maskSecrets("postgres://u:hunter2@h/d") }, "url");`);
    const text = JSON.stringify(lines);
    assert.ok(!text.includes("hunter2") && !text.includes("-long") && !text.includes("quo"), text);
    assert.equal(lines[0]?.a, "x [hidden] y");
    assert.match(String(lines[1]?.msg), /^abc/);
  });
});

describe("shutdown", () => {
  const program = `import { shutdownSignal } from "${RUNTIME}/shutdown.ts";
    const signal = shutdownSignal();
    const busy = setInterval(() => undefined, 1000);
    signal.addEventListener("abort", () => { console.log("told"); if (process.env.QUICK) clearInterval(busy); });
    console.log("running");`;
  const start = (t: TestContext, env: Record<string, string> = {}) =>
    startProcess(t, process.execPath, ["--input-type=module-typescript", "-e", program], { env });

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`${signal} lets the program end by itself`, async (t) => {
      const child = start(t, { QUICK: "1" });
      await child.waitForLine(/running/);
      child.kill(signal);
      assert.deepEqual(await child.exited, { code: 0, signal: null });
      assert.match(child.stdout, /told/);
    });
  }

  test("a second one ends it at once", async (t) => {
    const child = start(t);
    await child.waitForLine(/running/);
    child.kill("SIGINT");
    await child.waitForLine(/told/);
    child.kill("SIGINT");
    assert.deepEqual(await child.exited, { code: 130, signal: null });
  });
});

describe("secrets as files", () => {
  const directory = (t: TestContext): string => {
    const path = mkdtempSync(join(tmpdir(), "pg-events-secrets-"));
    t.after(() => rmSync(path, { recursive: true }));
    mkdirSync(join(path, "db"));
    writeFileSync(join(path, "db", "password"), "first");
    writeFileSync(join(path, "outside"), "no");
    return path;
  };

  test("are read anew each time; what is not there is undefined", (t) => {
    const path = directory(t);
    const read = secretFiles(path, () => false);
    assert.equal(read("db", "password"), "first");
    writeFileSync(join(path, "db", "password"), "second");
    assert.equal(read("db", "password"), "second");
    assert.equal(read("db", "user"), undefined);
    assert.equal(read("none", "password"), undefined);
    assert.equal(secretFiles(undefined, () => false)("db", "password"), undefined);
  });

  test("are never read from elsewhere", (t) => {
    const read = secretFiles(directory(t), () => false);
    for (const [name, key] of [
      ["..", "outside"],
      ["db", "../outside"],
      ["db/..", "outside"],
      [".", "outside"],
      ["db", ".."],
    ] as const) {
      assert.equal(read(name, key), undefined);
    }
  });
});

describe("the servers for metrics and probes", () => {
  test("answer by path: metrics, each check by name, 404 for the rest", async (t) => {
    let problem: string | null = "no lease";
    const metrics = await serveMetrics("127.0.0.1:0", createRegistry("1.2.3", "0a1b2c"));
    const probes = await serveProbes("127.0.0.1:0", {
      live: { loop: () => null },
      ready: { lease: () => problem },
    });
    t.after(() => Promise.all([metrics.close(), probes.close()]));
    const get = async (port: number, path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return `${response.status} ${await response.text()}`;
    };
    assert.match(
      await get(metrics.port, "/metrics"),
      /^200 .*pgevents_build_info\{version="1.2.3",revision="0a1b2c",node_version="v\d/s,
    );
    assert.equal(await get(metrics.port, "/other"), "404 not found\n");
    assert.equal(await get(probes.port, "/livez"), "200 loop: ok\n");
    assert.equal(await get(probes.port, "/readyz?verbose"), "503 lease: no lease\n");
    problem = null;
    assert.equal(await get(probes.port, "/readyz"), "200 lease: ok\n");
  });

  test("F57 a check that throws, a malformed request and a client that sends nothing harm nobody", async (t) => {
    const probes = await serveProbes("127.0.0.1:0", {
      live: { loop: () => null },
      ready: {
        broken: () => {
          throw new Error("inner text");
        },
      },
    });
    t.after(() => probes.close());
    const silent = connect(probes.port, "127.0.0.1");
    t.after(() => void silent.destroy());
    const malformed = connect(probes.port, "127.0.0.1");
    malformed.write("NOT HTTP\r\n\r\n");
    await once(malformed.resume(), "close");
    const broken = await fetch(`http://127.0.0.1:${probes.port}/readyz`);
    assert.equal(broken.status, 500);
    assert.doesNotMatch(await broken.text(), /inner/);
    assert.equal((await fetch(`http://127.0.0.1:${probes.port}/livez`)).status, 200);
  });

  test("F57 an address in use, or no address at all, is told", async (t) => {
    const first = await serveMetrics("127.0.0.1:0", createRegistry("1", "0"));
    t.after(() => first.close());
    await assert.rejects(serveMetrics(`127.0.0.1:${first.port}`, createRegistry("1", "0")), {
      code: "PGE_ADDRESS_IN_USE",
      message: `--metrics-address: 127.0.0.1:${first.port} is in use.`,
    });
    for (const address of ["9090", "host:port", "host:70000", ""]) {
      await assert.rejects(async () => serveMetrics(address, createRegistry("1", "0")), {
        code: "PGE_ADDRESS_INVALID",
      });
    }
  });

  test("without a host listen on every address", async (t) => {
    const server = await serveMetrics(":0", createRegistry("1", "0"));
    t.after(() => server.close());
    assert.equal((await fetch(`http://127.0.0.1:${server.port}/metrics`)).status, 200);
  });
});
