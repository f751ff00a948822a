import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeError } from "../../src/core/errors.ts";
import {
  booleanOf,
  type ClassicInput,
  chooseClassicSettings,
  classicSource,
  type ModuleValue,
  withoutCredentials,
} from "../../src/core/settings/classic.ts";
import { describeCandidates, moduleCandidates } from "../../src/core/settings/module-name.ts";

const URL = "PG_EVENTS_DATABASE_URL";
const DATA = "PG_EVENTS_DATA_UPDATE_CALLBACK";
const SCHEMA = "PG_EVENTS_DB_SCHEMA_UPDATE_CALLBACK";

const text = (value: string): ModuleValue => ({ kind: "text", text: value });
const FUNCTION: ModuleValue = { kind: "function" };
const nothing = (type: string): ModuleValue => ({ kind: "other", type });

const GOOD = { [URL]: text("postgres://module"), [DATA]: text("app.callbacks.onData"), [SCHEMA]: FUNCTION };

function input(changes: Partial<ClassicInput> = {}): ClassicInput {
  return {
    where: "settings.mjs",
    values: GOOD,
    environment: {},
    databaseUrl: undefined,
    autoRebuild: true,
    ...changes,
  };
}

describe("classic settings", () => {
  test("come from the module, then the environment, then the flag", () => {
    const environment = { [URL]: "postgres://environment", [DATA]: "other.f" };
    assert.deepEqual(chooseClassicSettings(input()), {
      databaseUrl: "postgres://module",
      databaseUrlFrom: `${URL} in settings.mjs`,
      onData: { kind: "path", module: "app.callbacks", functionName: "onData" },
      onSchemaChange: { kind: "exported" },
    });
    assert.deepEqual(chooseClassicSettings(input({ environment })), {
      databaseUrl: "postgres://environment",
      databaseUrlFrom: `${URL} in the environment`,
      onData: { kind: "path", module: "other", functionName: "f" },
      onSchemaChange: { kind: "exported" },
    });
    const flagged = chooseClassicSettings(input({ environment, databaseUrl: "postgres://flag" }));
    assert.equal(flagged.databaseUrl, "postgres://flag");
    assert.equal(flagged.databaseUrlFrom, "--database-url");
    const emptyVariable = chooseClassicSettings(input({ environment: { [URL]: "" } }));
    assert.equal(emptyVariable.databaseUrl, "postgres://module");
  });

  test("the schema's function is neither needed nor used without auto-rebuild", () => {
    const { [SCHEMA]: _, ...values } = GOOD;
    assert.equal(chooseClassicSettings(input({ values, autoRebuild: false })).onSchemaChange, null);
    assert.equal(chooseClassicSettings(input({ autoRebuild: false })).onSchemaChange, null);
  });

  const WRONG: [name: string, changes: Partial<ClassicInput>, message: string][] = [
    [
      "no URL",
      { values: { ...GOOD, [URL]: nothing("undefined") } },
      `${URL} is empty. Set it in settings.mjs, or as a variable of the environment, or give --database-url.`,
    ],
    [
      "no function for data",
      { values: { [URL]: text("x") } },
      `${DATA} is missing. Set it in settings.mjs, or as a variable of the environment.`,
    ],
    [
      "no function for the schema",
      { values: { [URL]: text("x"), [DATA]: FUNCTION } },
      `${SCHEMA} is missing. Set it in settings.mjs, or as a variable of the environment, or give --auto-rebuild false.`,
    ],
    [
      "a misspelt name",
      { values: { ...GOOD, PG_EVENTS_DATABASE_URI: text("x"), OTHER: text("x") } },
      `PG_EVENTS_DATABASE_URI in settings.mjs is not a setting. The settings are ${URL}, ${DATA}, ${SCHEMA}; all others are flags or variables of the environment.`,
    ],
    [
      "a URL that is not text",
      { values: { ...GOOD, [URL]: FUNCTION } },
      `${URL} in settings.mjs is a function. Write the URL as text.`,
    ],
    [
      "a function that is neither",
      { values: { ...GOOD, [DATA]: nothing("number") } },
      `${DATA} in settings.mjs is of the type number. Write it as module.function, for example app.callbacks.onData.`,
    ],
    ...["onData", ".onData", "app.", "app.on data"].map((path): (typeof WRONG)[number] => [
      `the path "${path}"`,
      { environment: { [DATA]: path } },
      `${DATA} in the environment is "${path}", which names no function of a module. Write it as module.function, for example app.callbacks.onData.`,
    ]),
    [
      "a URL where a function is named",
      { environment: { [DATA]: "postgres://me:pass@host/" } },
      `${DATA} in the environment is "postgres://[hidden]@host/", which names no function of a module. Write it as module.function, for example app.callbacks.onData.`,
    ],
  ];
  for (const [name, changes, message] of WRONG) {
    test(`${name}: one message`, () => {
      assert.throws(
        () => chooseClassicSettings(input(changes)),
        (error) => describeError(error) === `PGE_SETTINGS_INVALID: ${message}`,
      );
    });
  }

  test("stand for a source with every table, and one call at a time", () => {
    const { spec } = classicSource("/app/settings.mjs", true);
    assert.equal(spec.capture.tables, undefined);
    assert.equal(spec.capture.schemaChanges, "Auto");
    assert.equal(spec.capture.context.query, true);
    assert.equal(spec.callbacks.length, 1);
    const [callback] = spec.callbacks;
    assert.equal(callback?.ordering, "Key");
    assert.equal(callback?.delivery.maxInFlight, 1);
    assert.equal(callback?.module?.path, "/app/settings.mjs");
    assert.equal(callback?.module?.format, "Classic");
    assert.equal(classicSource("/app/settings.mjs", false).spec.capture.schemaChanges, "Off");
  });

  test("--auto-rebuild takes the words of Python's strtobool", () => {
    for (const word of ["y", "yes", "t", "true", "on", "1", "True", "YES"])
      assert.equal(booleanOf(word), true);
    for (const word of ["n", "no", "f", "false", "off", "0", "False", "NO"])
      assert.equal(booleanOf(word), false);
    for (const word of ["", "maybe", "2", " true"]) assert.equal(booleanOf(word), undefined);
  });
});

describe("the files that a module's name may mean", () => {
  test("a module's name has directories for its dots", () => {
    assert.deepEqual(moduleCandidates("conf.settings", "code or yaml").slice(0, 9), [
      "conf/settings.mjs",
      "conf/settings.js",
      "conf/settings.mts",
      "conf/settings.ts",
      "conf/settings.cjs",
      "conf/settings.cts",
      "conf/settings.yaml",
      "conf/settings.yml",
      "conf/settings/index.mjs",
    ]);
    assert.deepEqual(moduleCandidates("settings.py", "code"), moduleCandidates("settings", "code"));
  });

  test("a path keeps its dots, and a file with its extension is meant alone", () => {
    assert.equal(moduleCandidates("../v1.2/settings", "code")[0], "../v1.2/settings.mjs");
    assert.equal(moduleCandidates("/etc/conf/settings.py", "code")[0], "/etc/conf/settings.mjs");
    assert.deepEqual(moduleCandidates("./settings.ts", "code"), ["./settings.ts"]);
    assert.deepEqual(moduleCandidates("settings.yml", "code or yaml"), ["settings.yml"]);
  });

  test("what no file can be meant by has none", () => {
    for (const name of ["", ".", "a..b", ".a", "a b", "settings."])
      assert.deepEqual(moduleCandidates(name, "code or yaml"), [], name);
    assert.deepEqual(moduleCandidates("settings.yaml", "code"), [], "a function is not in YAML");
  });

  test("are described in one line", () => {
    assert.equal(
      describeCandidates(moduleCandidates("a.b", "code")),
      "a/b.{mjs,js,mts,ts,cjs,cts} or a/b/index.{mjs,js,mts,ts,cjs,cts}",
    );
    assert.equal(describeCandidates(["a.yaml"]), "a.yaml");
  });
});

test("no user or password of a URL stays in a text of others", () => {
  assert.equal(
    withoutCredentials(`cannot use "postgres://me:p@ss/word@host/db": no`),
    `cannot use "postgres://[hidden]@host/db": no`,
  );
});
