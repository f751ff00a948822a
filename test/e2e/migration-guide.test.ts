/** docs/migrating-from-pg-events.md is tried: its settings, its manifest, and its SQL on what the Python package made. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import { useAncestor } from "../support/ancestor.ts";
import { classicProject } from "../support/classic-project.ts";
import { testDatabase } from "../support/postgres.ts";
import { startProcess } from "../support/processes.ts";

const GUIDE = readFileSync(join(import.meta.dirname, "../../docs/migrating-from-pg-events.md"), "utf8");

/** The fenced blocks of a language, indented ones too. */
function blocks(language: string): string[] {
  const fenced = GUIDE.matchAll(/^( *)```(\w*)\n([\s\S]*?)^ *```$/gm);
  return [...fenced].flatMap(([, indent = "", named, text = ""]) =>
    named === language ? [text.replaceAll(new RegExp(`^${indent}`, "gm"), "")] : [],
  );
}

/** The block whose first line is a comment with the file's name. */
function file(language: string, name: string): string {
  const found = blocks(language).find((text) =>
    new RegExp(`^(#|//) ${name.replaceAll(".", "\\.")}`).test(text),
  );
  assert.ok(found, `no block for ${name}`);
  return found;
}

test("the settings of the guide are good, in JavaScript and in YAML", async (t) => {
  const database = await testDatabase(t, { owner: true });
  const project = classicProject(t, {
    "app/callbacks.mjs": file("js", "app/callbacks.mjs"),
    "settings.mjs": file("js", "settings.mjs"),
    "in_yaml.yaml": file("yaml", "settings.yaml"),
  });
  for (const settings of ["settings", "in_yaml"]) {
    const args = ["build", "--settings", settings, "--check", "--database-url", database.url];
    const { code, stderr } = await project.run(args);
    assert.deepEqual([code, stderr], [3, ""], settings);
  }
});

test("the manifest of the guide is a valid PgEventSource", () => {
  const { spec } = parsePgEventSource(parse(file("yaml", "shop.yaml")), "the guide's manifest");
  assert.equal(spec.callbacks[0]?.module?.format, "Classic");
});

test("the SQL of the guide leads from the Python package to this one, and leaves nothing of it", async (t) => {
  const program = await useAncestor(t);
  if (program === null) return;
  const database = await testDatabase(t);
  await database.query("create table orders (id integer primary key)");
  const project = classicProject(t, {
    "app/__init__.py": "",
    "app/callbacks.py": "def on_data(payload): pass\ndef on_schema(payload): pass\n",
    "app/callbacks.mjs": file("js", "app/callbacks.mjs"),
    "settings.py": file("python", "settings.py").replace(/'postgres:[^']+'/, `'${database.url}'`),
    "settings.mjs": file("js", "settings.mjs"),
  });
  const python = startProcess(t, program, ["build", "--settings", "settings"], { cwd: project.directory });
  assert.equal((await python.exited).code, 0, python.stderr);
  const [eventTriggers = "", rest = "", ...others] = blocks("sql");
  assert.deepEqual(others, []);

  const build = (...flags: string[]) =>
    project.run(["build", "--settings", "settings", "--database-url", database.url, ...flags]);
  await database.query(eventTriggers);
  const built = await build();
  assert.equal(built.code, 0, built.stderr);
  assert.match(built.stderr, /^warning: AncestorTriggers: .* are still on tables \(1\)/m);
  await database.query(rest);
  assert.equal((await build()).code, 0);
  const check = await build("--check");
  assert.deepEqual([check.code, check.stderr], [0, ""], check.stdout);
  const { rows } = await database.query(
    `select proname as left_over from pg_proc where proname like 'pgevents\\_%'
     union all select evtname from pg_event_trigger where evtname like 'pgevents\\_notice%'
     union all select tgname from pg_trigger where tgname like 'pgevents\\_public%'`,
  );
  assert.deepEqual(rows, []);
});
