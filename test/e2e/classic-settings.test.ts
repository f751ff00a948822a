import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CALLBACKS, classicProject, settingsText } from "../support/classic-project.ts";
import { connect, testDatabase } from "../support/postgres.ts";
import { eventually } from "../support/processes.ts";

const URL = "PG_EVENTS_DATABASE_URL";
const DATA = "PG_EVENTS_DATA_UPDATE_CALLBACK";
const SCHEMA = "PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK";
const PATHS = { [DATA]: "app.callbacks.onData", [SCHEMA]: "app.callbacks.onSchema" };
const NOWHERE = "postgres://u:s3cr3t-value@127.0.0.1:9/d";

describe("pg-events build --settings", () => {
  test("twice, --check, --dry-run, --json and --uninstall say and do what they should", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    const project = classicProject(t, {
      "settings.mjs": `
        export const ${URL} = ${JSON.stringify(database.url)};
        export function ${DATA}() {}
        export const ${SCHEMA} = async () => {};
        console.log("printed by the settings");
        setInterval(() => {}, 1000);`,
    });
    const build = (...flags: string[]) => project.run(["build", "--settings", "settings", ...flags]);

    assert.equal((await build("--check")).code, 3);
    assert.match((await build("--dry-run")).stdout, /create or replace trigger "!pgevents_insert"/);
    const first = await build();
    assert.match(first.stdout, /^Built \(\d+ actions\): 1 table captured, PostgreSQL /);
    assert.equal(first.code, 0, first.stderr);
    assert.match((await build()).stdout, /^Nothing changed: 1 table captured/);
    assert.equal((await build("--check")).code, 0);
    assert.equal(JSON.parse((await build("--json")).stdout).changed, false);
    assert.match((await build("--uninstall")).stdout, /^Removed capture of 1 table and schema pgevents\.$/m);
    assert.match((await build("--uninstall")).stdout, /^Nothing to remove\.$/m);
    const { rows } = await database.query(
      "select nspname from pg_namespace where nspname = 'pgevents' union all select tgname from pg_trigger where not tgisinternal",
    );
    assert.deepEqual(rows, []);
  });

  test("one build serves every way to write the settings", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const values = { [URL]: database.url, ...PATHS };
    const project = classicProject(t, {
      "app/callbacks.mjs": CALLBACKS,
      "settings.mjs": settingsText("exports", values),
      "default.js": settingsText("default", values),
      "common.cjs": settingsText("default", values).replace("export default", "module.exports ="),
      "conf/typed.ts": settingsText("exports", values).replace(`const ${URL} =`, `const ${URL}: string =`),
      "conf/deep/settings.yaml": settingsText("yaml", { ...values, OTHER: "is passed over" }),
      "package/index.yml": settingsText("yaml", values),
    });
    const names = [
      "settings",
      "settings.py",
      "./settings",
      "settings.mjs",
      `${project.directory}/settings.mjs`,
    ];
    const others = ["default", "common", "conf.typed", "conf/typed.py", "conf.deep.settings", "package"];
    const built = await project.run(["build", "--settings", "settings"]);
    assert.equal(built.code, 0, built.stderr);
    for (const name of [...names, ...others]) {
      const check = await project.run(["build", "--settings", name, "--check"]);
      assert.deepEqual([check.code, check.stderr], [0, ""], name);
    }
  });

  test("the flag comes before the environment, and the environment before the settings", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const project = classicProject(t, {
      "app/callbacks.mjs": CALLBACKS,
      "settings.yaml": settingsText("yaml", { [URL]: NOWHERE, [DATA]: "no.such", [SCHEMA]: "no.such" }),
      "nothing.mjs": "",
    });
    const check = (settings: string, env: Record<string, string>, ...flags: string[]) =>
      project.run(["build", "--settings", settings, "--check", ...flags], env);
    const environment = { [URL]: database.url, ...PATHS };
    assert.equal((await check("settings", environment)).code, 3);
    assert.equal((await check("nothing", environment)).code, 3, "all may come from the environment");
    const flagged = await check(
      "settings",
      { ...environment, [URL]: NOWHERE },
      "--database-url",
      database.url,
    );
    assert.equal(flagged.code, 3);
    const wrong = await check("nothing", environment, "--database-url", NOWHERE);
    assert.match(wrong.stderr, /^PGE_CONNECTION_FAILED: /);
    assert.doesNotMatch(wrong.stderr, /s3cr3t/);
  });

  test("a function is looked for below the current directory, then beside the settings", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const project = classicProject(t, {
      "conf/settings.yaml": settingsText("yaml", { [URL]: database.url, ...PATHS }),
      "conf/app/callbacks.mts": CALLBACKS.replace("(payload)", "(payload: string)"),
    });
    const check = () => project.run(["build", "--settings", "conf.settings", "--check"]);
    assert.equal((await check()).code, 3);
    project.write("app/callbacks/index.js", "export default { onData() {} };");
    const { code, stderr } = await check();
    assert.equal(code, 1);
    assert.equal(
      stderr,
      `PGE_SETTINGS_INVALID: ${SCHEMA} names the function onSchema, which app/callbacks/index.js does not export. Its functions are onData.\n`,
    );
  });

  test("--auto-rebuild says how changes of tables are noticed", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const project = classicProject(t, {
      "settings.yaml": settingsText("yaml", { [URL]: database.url, [DATA]: "app.callbacks.onData" }),
      "app/callbacks.mjs": CALLBACKS,
    });
    const build = (...flags: string[]) =>
      project.run(["build", "--settings", "settings", "--json", ...flags]);
    const modeOf = (output: { stdout: string }) => JSON.parse(output.stdout).schemaChangeMode as string;
    for (const word of ["false", "No", "0"]) assert.equal(modeOf(await build("--auto-rebuild", word)), "Off");
    project.write("settings.yaml", settingsText("yaml", { [URL]: database.url, ...PATHS }));
    assert.equal(modeOf(await build()), "Poll", "on is the default");
    for (const word of ["true", "YES", "1"])
      assert.equal(modeOf(await build("--auto-rebuild", word)), "Poll");
  });

  test("flags that do not fit are usage errors", async (t) => {
    const project = classicProject(t, {});
    const hint = "\n(--help lists the options)\n";
    const cases: [args: string[], message: string][] = [
      [[], "one of '--manifest <file>' and '--settings <module>' is needed"],
      [
        ["--settings", "a", "--manifest", "b"],
        "option '--settings <module>' cannot be used with option '-f, --manifest <file>'",
      ],
      [
        ["--settings", "a", "--auto-rebuild", "maybe"],
        "option '--auto-rebuild <boolean>' argument 'maybe' is invalid. Use true or false.",
      ],
      [
        ["--manifest", "b", "--auto-rebuild", "true"],
        "option '--auto-rebuild' needs '--settings'; a manifest has spec.capture.schemaChanges",
      ],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await project.run(["build", ...args]);
      assert.deepEqual([code, stderr], [2, `error: ${message}${hint}`]);
    }
    const worker = await project.run(["worker", "--settings", "a", "--manifest", "b"]);
    assert.match(worker.stderr, /cannot be used with/);
    assert.equal(worker.code, 2);
  });
});

describe("wrong settings end with one message that says what, where and what to do", () => {
  const values = { [URL]: NOWHERE, ...PATHS };
  const without = (name: string) =>
    Object.fromEntries(Object.entries(values).filter(([key]) => key !== name));
  const yaml = (changes: Record<string, string>) => settingsText("yaml", { ...values, ...changes });
  const guide = "docs/migrating-from-pg-events.md shows how settings are written.";
  const CASES: [name: string, files: Record<string, string>, message: RegExp | string][] = [
    [
      "no such module",
      {},
      `PGE_SETTINGS_UNREADABLE: There is no settings module "settings": looked for settings.{mjs,js,mts,ts,cjs,cts,yaml,yml} or settings/index.{mjs,js,mts,ts,cjs,cts,yaml,yml} in DIRECTORY. Give --settings a file, or the name of a module below the current directory; ${guide}`,
    ],
    [
      "the Python module alone",
      { "settings.py": "" },
      `PGE_SETTINGS_UNREADABLE: settings.py is not a JavaScript, TypeScript or YAML file. Write the settings in one of them; ${guide}`,
    ],
    [
      "a syntax error",
      { "settings.mjs": "export const = 1;" },
      "PGE_SETTINGS_UNREADABLE: settings.mjs cannot be loaded: SyntaxError: Unexpected token '='. Try it alone: node settings.mjs",
    ],
    [
      "a module that throws",
      { "settings.mjs": `throw new Error("no ${NOWHERE}\\nsecond line");` },
      "PGE_SETTINGS_UNREADABLE: settings.mjs cannot be loaded: Error: no postgres://[hidden]@127.0.0.1:9/d. Try it alone: node settings.mjs",
    ],
    [
      "YAML that is not",
      { "settings.yaml": "a: [1" },
      /^PGE_SETTINGS_UNREADABLE: settings\.yaml is not YAML: .+ at line 1, column \d+\.$/,
    ],
    [
      "YAML without names",
      { "settings.yaml": "- a" },
      "PGE_SETTINGS_UNREADABLE: settings.yaml holds no settings. Write them as NAME: value, one a line.",
    ],
    [
      "a list in YAML",
      { "settings.yaml": yaml({}).replace(`"${NOWHERE}"`, "[1]") },
      `PGE_SETTINGS_INVALID: ${URL} in settings.yaml is of the type list. Write the URL as text.`,
    ],
    [
      "a misspelt name",
      { "settings.yaml": yaml({ PG_EVENTS_DATA_CALLBACK: "a.b" }) },
      `PGE_SETTINGS_INVALID: PG_EVENTS_DATA_CALLBACK in settings.yaml is not a setting. The settings are ${URL}, ${DATA}, ${SCHEMA}; all others are flags or variables of the environment.`,
    ],
    ...[URL, DATA, SCHEMA].map((name): (typeof CASES)[number] => [
      `${name} left out`,
      { "settings.yaml": settingsText("yaml", without(name)) },
      new RegExp(
        `^PGE_SETTINGS_INVALID: ${name} is missing\\. Set it in settings\\.yaml, or as a variable of the environment(, or give --[a-z- ]+)?\\.$`,
      ),
    ]),
    [
      "a path without a dot",
      { "settings.yaml": yaml({ [DATA]: "onData" }) },
      `PGE_SETTINGS_INVALID: ${DATA} in settings.yaml is "onData", which names no function of a module. Write it as module.function, for example app.callbacks.onData.`,
    ],
    [
      "no such module of a function",
      { "conf/settings.yaml": yaml({ [DATA]: "nowhere.onData" }) },
      `PGE_SETTINGS_INVALID: ${DATA} names the module nowhere, which does not exist: looked for nowhere.{mjs,js,mts,ts,cjs,cts} or nowhere/index.{mjs,js,mts,ts,cjs,cts} in DIRECTORY and DIRECTORY/conf. Write it as module.function, for example app.callbacks.onData.`,
    ],
    [
      "no such function",
      { "settings.yaml": yaml({ [DATA]: "app.callbacks.on_data" }) },
      `PGE_SETTINGS_INVALID: ${DATA} names the function on_data, which app/callbacks.mjs does not export. Its functions are onData, onSchema.`,
    ],
    [
      "a function's module that cannot be loaded",
      { "settings.yaml": yaml({ [DATA]: "broken.onData" }), "broken.mjs": `import "no-such-package";` },
      /^PGE_SETTINGS_UNREADABLE: broken\.mjs cannot be loaded: Error: Cannot find package 'no-such-package' .+ Try it alone: node broken\.mjs$/,
    ],
    [
      "a URL that is none",
      { "settings.yaml": yaml({ [URL]: NOWHERE.replace("postgres:", "http:") }) },
      `PGE_DATABASE_URL_INVALID: ${URL} in settings.yaml: does not begin with postgres://. Write postgres://user:password@host:5432/database, special characters percent-encoded.`,
    ],
    [
      "a database that is away",
      { "settings.yaml": yaml({}) },
      /^PGE_CONNECTION_FAILED: Database d at 127\.0\.0\.1:9 cannot be reached: ECONNREFUSED/,
    ],
  ];
  for (const [name, files, expected] of CASES) {
    test(name, async (t) => {
      const project = classicProject(t, { "app/callbacks.mjs": CALLBACKS, ...files });
      const settings = "conf/settings.yaml" in files ? "conf.settings" : "settings";
      const { code, stdout, stderr } = await project.run(["build", "--settings", settings]);
      assert.deepEqual([code, stdout], [1, ""]);
      const message = stderr.replaceAll(project.directory, "DIRECTORY");
      if (typeof expected === "string") assert.equal(message, `${expected}\n`);
      else assert.match(message.trimEnd(), expected);
      assert.doesNotMatch(message, /s3cr3t|\n./);
    });
  }

  test("the worker says the same, before it serves or logs anything", async (t) => {
    const project = classicProject(t, { "settings.yaml": settingsText("yaml", without(SCHEMA)) });
    const { code, stderr } = await project.run(["worker", "--settings", "settings"]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`^PGE_SETTINGS_INVALID: ${SCHEMA} is missing\\. .+ --auto-rebuild false\\.\n$`),
    );
  });
});

describe("pg-events worker --settings", () => {
  test("functions of settings that read their URL from the environment", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query("create table orders (id integer primary key)");
    const project = classicProject(t, {
      "settings.mjs": `
        import { onData } from "./app/callbacks.mjs";
        if (!process.env.${URL}) throw new Error("no URL");
        export const ${DATA} = onData, ${SCHEMA} = onData;`,
      "app/callbacks.mjs": CALLBACKS,
    });
    const env = { [URL]: database.url };
    assert.equal((await project.run(["build", "--settings", "settings"], env)).code, 0);
    project.startWorker(["--settings", "settings"], env);
    await database.query("insert into orders values (1)");
    await eventually(() => project.lines("received.txt").length === 1);
  });

  test("calls the function with the payloads of pg_events, one after the other", async (t) => {
    const database = await testDatabase(t, { owner: true });
    await database.query(`create table "Orders" (id integer primary key, state text)`);
    const project = classicProject(t, {
      "app/callbacks.mjs": CALLBACKS,
      "settings.yaml": settingsText("yaml", { [URL]: database.url, ...PATHS }),
    });
    assert.equal((await project.run(["build", "--settings", "settings"])).code, 0);
    const worker = project.startWorker(["--settings", "settings"]);
    const started = JSON.parse(await worker.waitForLine(/"classic settings"/)) as { file: string };
    assert.equal(started.file, `${project.directory}/settings.yaml`);
    await worker.waitForLine(/"relaying callback"/);

    const writer = await connect(t, database.url);
    await writer.query(`insert into "Orders" values (1, 'new')`);
    await writer.query(`update "Orders" set state = 'paid'`);
    await writer.query(`delete from "Orders"`);
    await eventually(() => project.lines("received.txt").length >= 3);
    const payloads = project.lines("received.txt").map((line) => JSON.parse(line) as Record<string, unknown>);
    const head = ["table_schema", "table_name", "session_user", "method"];
    const keys = payloads.map((payload) => Object.keys(payload));
    assert.deepEqual(keys, [
      [...head, "new_data", "query"],
      [...head, "old_data", "new_data", "query"],
      [...head, "old_data", "query"],
    ]);
    const common = { table_schema: "public", table_name: "Orders", session_user: database.name };
    const data = payloads.map(({ query: _, ...payload }) => payload);
    assert.deepEqual(data, [
      { ...common, method: "INSERT", new_data: { id: 1, state: "new" } },
      {
        ...common,
        method: "UPDATE",
        old_data: { id: 1, state: "new" },
        new_data: { id: 1, state: "paid" },
      },
      { ...common, method: "DELETE", old_data: { id: 1, state: "paid" } },
    ]);
    worker.kill("SIGTERM");
    assert.equal((await worker.exited).code, 0);
  });

  test("tells the other function of changed tables, without a superuser too, and not with --auto-rebuild false", async (t) => {
    const database = await testDatabase(t, { owner: true });
    const project = classicProject(t, {
      "app/callbacks.mjs": CALLBACKS,
      "settings.yaml": settingsText("yaml", { [URL]: database.url, ...PATHS }),
    });
    const { stdout } = await project.run(["build", "--settings", "settings"]);
    assert.match(stdout, /schema changes: Poll\.$/m);
    const worker = project.startWorker(["--settings", "settings"]);
    await worker.waitForLine(/"schemaChanges":"Poll".*"capture found"/);
    await worker.waitForLine(/"relaying callback"/);
    await database.query("create table later (id integer)");
    await eventually(() => project.lines("schema.txt").length === 1);
    const payload = JSON.parse(project.lines("schema.txt")[0] ?? "") as Record<string, unknown>;
    assert.deepEqual(
      [payload.command_tag, payload.object_type, payload.object_identity],
      ["CREATE TABLE", "table", "public.later"],
    );
    worker.kill("SIGTERM");
    await worker.exited;

    const off = ["--settings", "settings", "--auto-rebuild", "false"];
    assert.match((await project.run(["build", ...off])).stdout, /schema changes: Off\.$/m);
    await project.startWorker(off).waitForLine(/"relaying callback"/);
    await database.query(
      "create table unseen (id integer); insert into unseen values (1); insert into later values (1)",
    );
    await eventually(() => project.lines("received.txt").length === 1);
    assert.match(project.lines("received.txt")[0] ?? "", /"table_name":"later"/);
    assert.equal(project.lines("schema.txt").length, 1);
  });
});
