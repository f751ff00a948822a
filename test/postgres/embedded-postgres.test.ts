import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Client } from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { ownServer, testDatabase } from "../support/postgres.ts";
import { eventually, startProcess } from "../support/processes.ts";

const MODULE = new URL("../../src/runtime/embedded-postgres.ts", import.meta.url).href;
const UNSAFE = { fsync: "off" };

async function queryOnce(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("embedded PostgreSQL", () => {
  test("serves on loopback with the given settings, logs, and leaves nothing behind", async (t) => {
    const lines: string[] = [];
    const settings = { ...UNSAFE, work_mem: "7MB" };
    const server = await startEmbeddedPostgres({ settings, log: (line) => lines.push(line) });
    t.after(() => server.stop());
    const [row] = await queryOnce(
      server.url,
      "SELECT current_setting('work_mem') AS memory, current_setting('listen_addresses') AS addresses, current_setting('data_directory') AS data, usesuper FROM pg_user WHERE usename = current_user",
    );
    assert.equal(row?.memory, "7MB");
    assert.equal(row?.addresses, "127.0.0.1");
    assert.equal(row?.usesuper, true);
    assert.ok(lines.some((line) => line.includes("ready to accept connections")));
    const data = String(row?.data);
    assert.ok(existsSync(data));
    const { pid } = server;
    await server.stop();
    assert.equal(runs(pid), false);
    assert.equal(existsSync(join(data, "..")), false);
  });

  test("wants its password over SCRAM", async (t) => {
    const server = await ownServer(t);
    const wrong = server.url.replace(server.password, "wrong");
    await assert.rejects(queryOnce(wrong, "SELECT 1"), { code: "28P01" });
    const [row] = await queryOnce(server.url, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'");
    assert.match(String(row?.rolpassword), /^SCRAM-SHA-256\$/);
  });

  test("keeps committed rows over a kill and a restart", async (t) => {
    const server = await ownServer(t, { fsync: "on" });
    await queryOnce(server.url, "CREATE TABLE kept AS SELECT 42 AS answer");
    await server.kill();
    await assert.rejects(queryOnce(server.url, "SELECT 1"), { code: "ECONNREFUSED" });
    await server.restart();
    assert.deepEqual(await queryOnce(server.url, "SELECT answer FROM kept"), [{ answer: 42 }]);
  });

  test("uses a given data directory again, password included", async (t) => {
    const dataDir = join(mkdtempSync(join(tmpdir(), "pg-events-test-")), "deep");
    let second: EmbeddedPostgres | undefined;
    t.after(async () => {
      await second?.stop();
      rmSync(join(dataDir, ".."), { recursive: true, force: true });
    });
    chmodSync(join(dataDir, ".."), 0o755); // root's server runs as another user
    const first = await startEmbeddedPostgres({ dataDir, settings: UNSAFE });
    await queryOnce(first.url, "CREATE TABLE kept AS SELECT 42 AS answer").finally(() => first.stop());
    second = await startEmbeddedPostgres({ dataDir, settings: UNSAFE });
    assert.equal(second.password, first.password);
    assert.deepEqual(await queryOnce(second.url, "SELECT answer FROM kept"), [{ answer: 42 }]);
  });

  test("says what the server said when it does not start, and leaves nothing behind", async () => {
    await assert.rejects(startEmbeddedPostgres({ settings: { no_such_setting: "1" } }), {
      code: "PGE_EMBEDDED_POSTGRES",
      message: /no_such_setting/,
    });
  });

  test("goes away with its data when the process that started it is killed", async (t) => {
    const program = `
      const { startEmbeddedPostgres } = await import(${JSON.stringify(MODULE)});
      const { pid, url } = await startEmbeddedPostgres({ settings: { fsync: "off" } });
      console.log("started " + JSON.stringify({ pid, url }));`;
    const parent = startProcess(t, process.execPath, ["--input-type=module", "-e", program]);
    const line = await parent.waitForLine(/^started /);
    const { pid, url } = JSON.parse(line.slice("started ".length)) as { pid: number; url: string };
    const [row] = await queryOnce(url, "SELECT current_setting('data_directory') AS data");
    parent.kill("SIGKILL");
    await eventually(() => !runs(pid));
    await eventually(() => !existsSync(join(String(row?.data), "..")));
  });
});

describe("test databases", () => {
  test("are fresh and go away after the test", async (t) => {
    let url = "";
    await t.test("inner", async (inner) => {
      const database = await testDatabase(inner);
      url = database.url;
      await database.query("CREATE TABLE thing (id int)");
      await database.query("INSERT INTO thing VALUES ($1)", [7]);
      assert.deepEqual((await database.query("SELECT id FROM thing")).rows, [{ id: 7 }]);
    });
    await assert.rejects(queryOnce(url, "SELECT 1"), { code: "3D000" });
  });

  test("can belong to an ordinary role", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const role = "SELECT rolsuper, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user";
    assert.deepEqual((await database.query(role)).rows, [
      { rolsuper: false, rolreplication: false, rolbypassrls: false },
    ]);
    await database.query("CREATE SCHEMA mine");
    assert.deepEqual(await queryOnce(database.superuserUrl, "SHOW is_superuser"), [{ is_superuser: "on" }]);
  });
});
