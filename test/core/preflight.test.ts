import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { captureSchema } from "../../src/core/api/capture.ts";
import { REASONS } from "../../src/core/api/conditions.ts";
import { allowedActions } from "../../src/core/capture/allowed-actions.ts";
import type { CaptureAction } from "../../src/core/capture/diff.ts";
import {
  bySeverity,
  FINDINGS,
  type Finding,
  finding,
  findingText,
  isFatal,
  refusal,
} from "../../src/core/capture/findings.ts";
import type { ObservedCatalog, ObservedRelation } from "../../src/core/capture/model.ts";
import { captureNames } from "../../src/core/capture/names.ts";
import { OUTBOX_COLUMNS, obstacles, type PreflightInput, remarks } from "../../src/core/capture/preflight.ts";
import { observedRelation } from "../support/relation.ts";

const NAMES = captureNames("pgevents");

const INSTALLATION: NonNullable<ObservedCatalog["installation"]> = {
  installationId: "i",
  owner: "me",
  epoch: "5",
  specHash: "h",
  version: "1",
  migrations: [1],
  callbacks: ["a"],
  schemaChangeMode: "Poll",
  tablesChanged: false,
  functionsHash: "f",
  ownerRights: true,
  workerRights: true,
};

const CATALOG: ObservedCatalog = {
  serverVersion: "18.1",
  readOnly: false,
  server: {
    role: "shop",
    database: "shop",
    inRecovery: false,
    backendPid: 7,
    mayCreateSchema: true,
    freeConnections: 90,
    settings: {},
  },
  schema: {
    relations: [],
    functions: 0,
    outboxColumns: [],
    usable: true,
    owned: true,
    owner: null,
    damagedOwner: null,
  },
  installation: null,
  mayMakeEventTriggers: false,
  eventTriggers: [],
  ancestor: { tables: 0, eventTriggers: [] },
  relations: [],
};

const BUILT: ObservedCatalog = {
  ...CATALOG,
  installation: INSTALLATION,
  schema: {
    ...CATALOG.schema,
    owner: "shop",
    relations: ["outbox", "callback"],
    outboxColumns: OUTBOX_COLUMNS,
  },
};

function input(catalog: ObservedCatalog, changes: Partial<PreflightInput> = {}): PreflightInput {
  return {
    catalog,
    capture: captureSchema.parse({}),
    names: NAMES,
    owner: "me",
    epoch: null,
    role: '"shop"',
    captured: [],
    mode: "EventTrigger",
    migrations: new Map([[1, ["outbox", "callback"]]]),
    sessionPid: 7,
    ...changes,
  };
}

const server = (changes: Partial<ObservedCatalog["server"]>) => ({
  ...BUILT,
  server: { ...BUILT.server, ...changes },
});
const schema = (changes: Partial<ObservedCatalog["schema"]>, catalog = BUILT) => ({
  ...catalog,
  schema: { ...catalog.schema, ...changes },
});

describe("obstacles", () => {
  const cases: [string, PreflightInput, string[]][] = [
    ["none before the first build", input(CATALOG), []],
    ["none after it", input(BUILT), []],
    ["a replica", input({ ...server({ inRecovery: true }), readOnly: true }), ["DatabaseReadOnly"]],
    [
      "no right to create the schema",
      input({ ...CATALOG, server: { ...CATALOG.server, mayCreateSchema: false } }),
      ["SchemaNotAllowed"],
    ],
    [
      "that right is somebody else's matter with install: Manual",
      input(
        { ...CATALOG, server: { ...CATALOG.server, mayCreateSchema: false } },
        { capture: captureSchema.parse({ install: "Manual" }) },
      ),
      [],
    ],
    [
      "an empty schema of another role",
      input(schema({ owner: "dba", owned: false }, CATALOG)),
      ["SchemaNotAllowed"],
    ],
    [
      "a schema with something else in it",
      input(schema({ owner: "shop", relations: ["invoices"] }, CATALOG)),
      ["SchemaInUse"],
    ],
    ["a schema of another role", input(schema({ usable: false })), ["CaptureNotReadable"]],
    ["another owner", input(BUILT, { owner: "you" }), ["OwnershipConflict"]],
    ["an older leader", input(BUILT, { epoch: 4 }), ["StaleBuilder"]],
    ["the same leader", input(BUILT, { epoch: 5 }), []],
    ["a table that is gone", input(schema({ relations: ["outbox"] })), ["CaptureDamaged"]],
    ["a column that is gone", input(schema({ outboxColumns: OUTBOX_COLUMNS.slice(1) })), ["CaptureDamaged"]],
    [
      "the Python package, before tables are made",
      input({ ...CATALOG, ancestor: { tables: 1, eventTriggers: ["x"] } }),
      ["AncestorPresent"],
    ],
    [
      "the Python package, after that",
      input({ ...BUILT, ancestor: { tables: 1, eventTriggers: ["x"] } }),
      [],
    ],
  ];
  for (const [name, given, codes] of cases) {
    test(name, () => {
      const found = obstacles(given);
      assert.deepEqual(
        found.map(({ code }) => code),
        codes,
      );
      assert.ok(found.every(isFatal));
    });
  }
});

describe("remarks", () => {
  const noted = (given: PreflightInput): string[] => remarks(given).map(({ code }) => code);

  test("none where all is well", () => {
    assert.deepEqual(noted(input(BUILT, { captured: [observedRelation("orders")] })), []);
  });

  test("another process answers than the one of the login: a pooler; unknown is no pooler", () => {
    assert.deepEqual(noted(input(BUILT, { sessionPid: 8 })), ["Pooler"]);
    assert.deepEqual(noted(input(BUILT, { sessionPid: null })), []);
  });

  test("settings and connections, each with the numbers", () => {
    const settings = {
      max_prepared_transactions: "10",
      statement_timeout: "5000",
      idle_session_timeout: "1000",
      "plpgsql.extra_errors": "none",
    };
    const capture = captureSchema.parse({ context: { settings: ["app.user", "plpgsql.extra_errors"] } });
    const found = remarks(input(server({ settings, freeConnections: 3 }), { capture }));
    assert.deepEqual(
      found.map(({ code }) => code),
      ["FewConnections", "StatementTimeout", "IdleTimeout", "TwoPhaseCommit", "SettingOfExtension"],
    );
    assert.match(found[0]?.message ?? "", /can make 3 more connections/);
    const enough = server({ settings: { statement_timeout: "30000", idle_session_timeout: "600000" } });
    assert.deepEqual(noted(input(enough)), []);
  });

  test("many tables are named with their number", () => {
    const captured = Array.from({ length: 5001 }, (_, index) => observedRelation(`t${index}`, { key: [] }));
    const found = remarks(input(BUILT, { captured }));
    assert.deepEqual(
      found.map(({ code }) => code),
      ["ManyTables", "NoKey"],
    );
    assert.match(
      found[1]?.message ?? "",
      /^public\.t0, public\.t1, public\.t2, public\.t3, public\.t4 and 4996 more: /,
    );
  });

  test("replication and keys, as the spec has them", () => {
    const captured = [
      observedRelation("copied", { facts: { ...observedRelation("x").facts, subscribed: true } }),
    ];
    assert.deepEqual(noted(input(BUILT, { captured })), ["ReplicatedTable"]);
    const replicated = captureSchema.parse({ replicated: true });
    assert.deepEqual(noted(input(BUILT, { captured, capture: replicated })), []);
    const keyless = [observedRelation("log", { key: [] })];
    assert.deepEqual(noted(input(BUILT, { captured: keyless })), ["NoKey"]);
    const keyed = captureSchema.parse({ tables: [{ schema: "public", name: "log", key: ["id"] }] });
    assert.deepEqual(noted(input(BUILT, { captured: keyless, capture: keyed })), []);
  });

  test("Poll is remarked on where the spec leaves the choice", () => {
    assert.deepEqual(noted(input(BUILT, { mode: "Poll" })), ["SchemaChangesByPolling"]);
    const capture = captureSchema.parse({ schemaChanges: "Poll" });
    assert.deepEqual(noted(input(BUILT, { mode: "Poll", capture })), []);
  });
});

describe("allowed actions", () => {
  const triggers = (changes: Partial<CaptureAction & { kind: "SetTriggers" }>): CaptureAction => ({
    kind: "SetTriggers",
    id: "table:public.t",
    table: { schema: "public", name: "t" },
    root: { schema: "public", name: "t" },
    level: "Statement",
    writtenAgain: false,
    about: "",
    rule: "",
    when: {},
    settingsMatter: false,
    replicated: false,
    create: [],
    drop: [],
    ...changes,
  });
  const allowed = (action: CaptureAction, facts: Partial<ObservedRelation["facts"]>, superuser = false) => {
    const relations = [observedRelation("t", { facts: { ...observedRelation("t").facts, ...facts } })];
    return allowedActions([action], { relations, mayMakeEventTriggers: superuser }, NAMES, '"me"');
  };
  const missing = { missingRights: [{ privilege: "TRIGGER" as const, object: "public.t" }], owned: false };

  test("creating needs TRIGGER, dropping the ownership, replacing under the same name only TRIGGER", () => {
    assert.deepEqual(allowed(triggers({ create: ["Insert"] }), missing), {
      actions: [],
      findings: [
        finding(
          "PermissionDenied",
          "public.t",
          "public.t: the role may not make triggers on it.",
          'grant trigger on public.t to "me";',
        ),
      ],
    });
    assert.equal(allowed(triggers({ create: ["Insert"] }), { owned: false }).actions.length, 1);
    const replaced = triggers({ create: ["Insert"], drop: ["!pgevents_insert"] });
    assert.equal(allowed(replaced, { owned: false }).actions.length, 1);
    const dropped = allowed(triggers({ drop: ["!pgevents_insert"] }), { owned: false });
    assert.deepEqual(
      [dropped.actions.length, dropped.findings[0]?.remedy],
      [0, 'drop trigger "!pgevents_insert" on "public"."t";'],
    );
    assert.equal(allowed(triggers({ drop: ["!pgevents_insert"] }), {}).actions.length, 1);
    const always = allowed(triggers({ create: ["Insert"], replicated: true }), { owned: false });
    assert.equal(always.findings[0]?.remedy, 'grant "shop" to "me";');
  });

  test("event triggers are a superuser's", () => {
    const follow: CaptureAction = {
      kind: "FollowSchemaChanges",
      id: "schema-changes",
      mode: "EventTrigger",
      fromMode: null,
      drop: [],
      create: true,
    };
    assert.equal(allowed(follow, {}).findings[0]?.where, "event triggers");
    assert.equal(allowed(follow, {}, true).actions.length, 1);
    assert.equal(allowed({ ...follow, mode: "Poll", create: false }, {}).actions.length, 1);
    const drop = allowed({ ...follow, mode: "Poll", create: false, drop: ["e"] }, {});
    assert.equal(drop.findings[0]?.remedy, 'drop event trigger if exists "e";');
  });
});

describe("findings", () => {
  test("the worst come first, the others stay in order", () => {
    const some = [
      finding("NoKey", "tables", "1"),
      finding("TableNotFound", "a.b", "2"),
      finding("Pooler", "server", "3"),
      finding("StaleBuilder", "schema", "4"),
      finding("Skipped", "tables", "5"),
    ];
    assert.deepEqual(
      bySeverity(some).map(({ message }) => message),
      ["4", "2", "3", "1", "5"],
    );
  });

  test("codes of errors are condition reasons; those of fatal ones end a build as an error with one", () => {
    for (const [code, { severity, reason }] of Object.entries(FINDINGS)) {
      if (severity === "Error") assert.ok(code in REASONS, code);
      if (severity === "Fatal") assert.ok(reason !== undefined && reason in REASONS, code);
    }
    const fatal: Finding = finding("SchemaInUse", "schema x", "In use.", "Drop it.");
    assert.ok(isFatal(fatal));
    const { code, message, remedy, reason, disposition } = refusal(fatal);
    assert.deepEqual(
      { code, message, remedy, reason, disposition },
      {
        code: "PGE_SCHEMA_IN_USE",
        message: "In use.",
        remedy: "Drop it.",
        reason: "OwnershipConflict",
        disposition: "retry",
      },
    );
    assert.equal(findingText(fatal), "SchemaInUse: In use. Drop it.");
  });
});
