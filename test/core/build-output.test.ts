/** What a build says while it runs, the text of its SQL, and the ConfigMap that holds it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { progressLine } from "../../src/commands/build-progress.ts";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import type { CaptureAction } from "../../src/core/capture/diff.ts";
import { finding } from "../../src/core/capture/findings.ts";
import { captureNames } from "../../src/core/capture/names.ts";
import { sqlScript } from "../../src/core/capture/sql-script.ts";
import { transactionsFor, transactionText } from "../../src/core/capture/transactions.ts";
import { installSqlConfigMap } from "../../src/operator/install-sql.ts";

describe("the progress of a build", () => {
  /** Updates every 100 ms for so long. @returns what was written */
  function progress(isTTY: boolean, milliseconds: number): string[] {
    let nowMs = 0;
    const written: string[] = [];
    const line = progressLine({ isTTY, write: (text) => written.push(text) }, () => nowMs);
    for (; nowMs < milliseconds; nowMs += 100) line.update({ done: nowMs / 100, total: 1000 });
    nowMs += 60_000;
    line.update({ done: 1000, total: 1000 });
    line.end();
    return written;
  }

  test("of a short one is not told", () => {
    assert.deepEqual([progress(true, 1000), progress(false, 1000)], [[], []]);
  });

  test("is one line that changes on a terminal, and is gone at the end", () => {
    const written = progress(true, 1300);
    assert.deepEqual(written, [
      "\r\u001b[K10 of 1,000 tables",
      "\r\u001b[K11 of 1,000 tables",
      "\r\u001b[K12 of 1,000 tables",
      "\r\u001b[K",
    ]);
  });

  test("is a line every five seconds elsewhere", () => {
    assert.deepEqual(progress(false, 12_000), [
      "10 of 1,000 tables\n",
      "60 of 1,000 tables\n",
      "110 of 1,000 tables\n",
    ]);
  });
});

describe("the transactions of a build", () => {
  const actions: CaptureAction[] = [
    { kind: "InstallSchema", id: "install", owner: "me" },
    { kind: "Migrate", id: "migrate:1", version: 1 },
    { kind: "AddCallback", id: "callback:a", callback: "a" },
    {
      kind: "FollowSchemaChanges",
      id: "schema-changes",
      mode: "Off",
      fromMode: null,
      drop: [],
      create: false,
    },
  ];

  test("the schema is made in one, everything else by itself; only parts fail by themselves", () => {
    const sources = { migrations: new Map([[1, "create table @schema@.x ()"]]), functions: "" };
    const transactions = transactionsFor(actions, captureNames("pgevents"), sources);
    assert.deepEqual(
      transactions.map(({ actions: some, part }) => [some.map(({ id }) => id).join(), part]),
      [
        ["install,migrate:1", null],
        ["callback:a", null],
        ["schema-changes", "event triggers"],
      ],
    );
  });

  test("each text sets its own limits, and the one that older servers do not know only on newer ones", () => {
    const timeouts = { lockTimeoutSeconds: 3, statementTimeoutSeconds: 60 };
    const text = (version: string | null) => transactionText(["select 1", "select 2"], timeouts, version);
    const head =
      "begin; set local search_path = pg_catalog; set local pgevents.build = on; set local lock_timeout = '3s'; set local statement_timeout = '60s'";
    assert.equal(text("16.4"), `${head};\nselect 1;\nselect 2;\ncommit;`);
    assert.equal(text(null), text("16.4"));
    assert.equal(text("17.1"), text("16.4").replace(head, `${head}; set local transaction_timeout = 0`));
  });

  test("findings are comments of the script, on one line each", () => {
    const script = sqlScript(["begin;\ncommit;"], [finding("NoKey", "tables", "a\nb", "c;\nd;")]);
    assert.equal(script, "-- Info NoKey: a b c; d;\n\nset client_encoding = 'UTF8';\n\nbegin;\ncommit;\n");
    assert.equal(sqlScript([]), "-- nothing to do\n");
  });
});

describe("the ConfigMap with the SQL", () => {
  const source = parsePgEventSource(
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop", namespace: "store", uid: "u" },
      spec: {
        database: { secretRef: { name: "shop-db" } },
        callbacks: [{ name: "a", http: { uri: "http://a/" } }],
      },
    },
    "a test",
  );
  /** Random enough not to be packed well. */
  const noise = (bytes: number) => {
    let state = 1;
    const text = () => {
      state = (state * 48_271) % 2_147_483_647;
      return state.toString(36);
    };
    const parts: string[] = [];
    for (let length = 0; length < bytes; length += parts.at(-1)?.length ?? 0) parts.push(text());
    return parts.join("");
  };

  test("belongs to the source, cannot be changed, and has a name that follows from the content", () => {
    const one = installSqlConfigMap(source, "select 1;");
    assert.match(one.metadata.name, /^shop-sql-[0-9a-f]{8}$/);
    assert.deepEqual(one, installSqlConfigMap(source, "select 1;"));
    assert.notEqual(one.metadata.name, installSqlConfigMap(source, "select 2;").metadata.name);
    assert.deepEqual([one.immutable, one.metadata.ownerReferences[0]?.uid], [true, "u"]);
    assert.deepEqual("data" in one && one.data, { "install.sql": "select 1;" });
  });

  test("packs what is large, and says where to find what is larger", () => {
    const large = "create trigger …;\n".repeat(60_000);
    const packed = installSqlConfigMap(source, large);
    assert.ok("binaryData" in packed);
    const bytes = Buffer.from(packed.binaryData["install.sql.gz"] ?? "", "base64");
    assert.equal(gunzipSync(bytes).toString(), large);
    const larger = installSqlConfigMap(source, noise(3_000_000));
    assert.match(JSON.stringify(larger), /pg-events build --manifest … --dry-run/);
    for (const one of [packed, larger]) assert.ok(JSON.stringify(one).length < 1_000_000);
  });
});
