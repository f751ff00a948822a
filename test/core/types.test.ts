import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { OPERATIONS } from "../../src/core/api/capture.ts";
import type { ContextSpec } from "../../src/core/capture/context.ts";
import type { DesiredTable } from "../../src/core/capture/model.ts";
import { aboutTable } from "../../src/core/capture/row-rule.ts";
import { eventTypes } from "../../src/core/types/events.ts";
import { jsonSchemaDocument, jsonSchemas } from "../../src/core/types/json-schema.ts";
import type { ObservedTable, ObservedTableColumn, ObservedType } from "../../src/core/types/model.ts";
import { typeName, uniqueNames } from "../../src/core/types/names.ts";
import { typescriptText } from "../../src/core/types/typescript.ts";
import { TYPESCRIPT_NAMES } from "../../src/core/types/typescript-prelude.ts";
import { observedRelation } from "../support/relation.ts";
import { compile } from "../support/typescript-compiler.ts";

const SOURCE = { namespace: "default", name: "shop" };
const INTEGER = "23";
const TEXT = "25";
const TIME = "1184";
/** Names and comments that mean something to somebody on the way. */
const HOSTILE = [
  "*/ export type Hacked = 1; /*",
  "@ts-expect-error",
  "*/",
  "/",
  '"; }',
  "a\nb\r\u2028c",
  "\u202edesrever",
  "`$",
  "\\",
  "__proto__",
  "constructor",
  "new",
  "readonly",
  "get",
  "[key: string]",
  "1",
  "-",
  "имя",
  "ʘ𝒳\u{1F600}",
  "\u0c5c",
  "'",
  "#",
  "$ref",
  "%41",
  "../x",
];

describe("the text of a small table", () => {
  test("its row, with comments, what is null and what is not", () => {
    const text = typescriptText(orders());
    assert.equal(text.slice(text.indexOf("/** The captured tables. */")), ORDERS);
  });

  test("as JSON Schema", () => {
    const schema = jsonSchemas(orders(), SOURCE).get("ShopOrderItems");
    const { $id, title, description, $defs } = schema as Record<string, Record<string, unknown>>;
    assert.deepEqual(
      { $id, title, description, row: $defs?.row, key: $defs?.key, state: $defs?.ShopOrderState },
      {
        $id: `urn:pg-events:default:shop:table:shop:order_items:${JSON.parse(aboutTable(["id"], "", "")).version}`,
        title: "shop.order_items",
        description: "What was ordered",
        row: {
          type: "object",
          properties: {
            id: { $comment: "integer", type: "integer", minimum: -2147483648, maximum: 2147483647 },
            state: {
              description: "new,\nthen paid",
              $comment: "shop.order_state",
              anyOf: [{ $ref: "#/$defs/ShopOrderState" }, { type: "null" }],
            },
            "noted at": { $comment: "timestamp with time zone", type: ["string", "null"] },
          },
          required: ["id", "state", "noted at"],
        },
        key: {
          type: "array",
          prefixItems: [{ type: "integer", minimum: -2147483648, maximum: 2147483647 }],
          items: false,
          minItems: 1,
        },
        state: { title: "shop.order_state", enum: ["new", "paid"] },
      },
    );
  });

  test("context as the spec asks for it; only operations that are captured", () => {
    const context = { query: true, settings: ["app.user"], traceparent: "app.trace" };
    const text = typescriptText(typesOf([table("a", "b")], { context, operations: ["Insert", "Truncate"] }));
    const from = text.indexOf("export interface Context");
    assert.equal(
      text.slice(from, text.indexOf("\n}\n", from)),
      `export interface Context {
  session_user: string;
  application_name: string;
  /** Text of the statement. */
  query: string | null;
  settings: {
    "app.user": string | null;
  };
  traceparent: string | null;`,
    );
    assert.match(text, /operation: "Insert" \| "Truncate";/);
  });
});

describe("names", () => {
  test("from words; digits do not lead; what is no letter parts words", () => {
    const names = [
      ["public", "orders"],
      ["public", "order_items"],
      ["Shop", "orderItems"],
      ["1", "2"],
      ["ключ", "a.b-c"],
      ["!", "?"],
    ].map((parts) => typeName(...parts));
    assert.deepEqual(names, ["PublicOrders", "PublicOrderItems", "ShopOrderItems", "_12", "КлючABC", "__"]);
  });

  test("each is given once, whatever the case, and none that is taken", () => {
    const unique = uniqueNames(["ChangeEvent"]);
    const names = ["ChangeEvent", "A", "a", "A_2", "A"].map(unique);
    assert.deepEqual(names, ["ChangeEvent_2", "A", "a_2", "A_2_2", "A_3"]);
  });

  test("the text declares no name that a table could get", () => {
    const declared = [...typescriptText(typesOf([])).matchAll(/^export (?:type|interface) (\w+)/gm)];
    const taken = declared.map(([, name]) => name ?? "").filter((name) => !TYPESCRIPT_NAMES.includes(name));
    assert.deepEqual(taken, []);
  });
});

describe("hostile names and comments", () => {
  const types = typesOf([
    ...HOSTILE.map((name) =>
      table(name, name, { comment: name, columns: HOSTILE.map((one) => column(one, { comment: one })) }),
    ),
    table("a.b", "c"),
    table("a", "b.c"),
    table("change", "event"),
    table("p", "nothing", { columns: [] }),
    table("p", "empty", { columns: [column("e", { type: "e0" }), column("h", { type: "eh" })] }),
  ]);

  test("the text compiles, alone and where it is used", (t) => {
    const user = `import type { ChangeEvent, RowEvent, Tables } from "./events.d.ts";
declare const event: ChangeEvent;
if (event.data.operation === "Insert") event.data.new satisfies object;
const both: RowEvent<"a.b.c">["relation"][] = [{ schema: "a.b", table: "c" }, { schema: "a", table: "b.c" }];
// @ts-expect-error
const neither: RowEvent<"a.b.c">["relation"] = { schema: "a.b", table: "b.c" };
const proto: Tables["__proto__.__proto__"]["key"] = null;
export { both, neither, proto };
`;
    assert.equal(compile(t, { "events.d.ts": typescriptText(types), "user.ts": user }), "");
    assert.doesNotMatch(typescriptText(types), /^export type Hacked/m);
  });

  test("the schema is one, and its own examples pass", () => {
    const ajv = new Ajv2020({ strict: true });
    const validate = ajv.compile(jsonSchemaDocument(types, SOURCE));
    const row = JSON.parse(`{${HOSTILE.map((name) => `${JSON.stringify(name)}:"x"`).join(",")}}`);
    for (const name of HOSTILE) {
      const data = {
        operation: "Insert",
        relation: { schema: name, table: name },
        key: null,
        old: null,
        new: row,
        transaction: { id: "1" },
        context: { session_user: "a", application_name: "" },
      };
      assert.ok(validate(data), `${name}: ${JSON.stringify(validate.errors)}`);
      assert.ok(!validate({ ...data, new: { ...row, "%41": 1 } }));
      assert.ok(!validate({ ...data, relation: { schema: name, table: "other" } }));
    }
  });

  test("no table at all is a text, too", (t) => {
    assert.equal(compile(t, { "events.d.ts": typescriptText(typesOf([])) }), "");
    new Ajv2020({ strict: true }).compile(jsonSchemaDocument(typesOf([]), SOURCE));
  });
});

const ORDERS = `/** The captured tables. */
export interface Tables {
  "shop.order_items": {
    schema: "shop";
    table: "order_items";
    row: ShopOrderItems;
    key: [ShopOrderItems["id"]];
    operation: "Insert" | "Update" | "Delete" | "Truncate";
    context: Context;
  };
}

/**
 * shop.order_items
 * What was ordered
 */
export interface ShopOrderItems {
  /** integer */
  id: number;
  /**
   * new,
   * then paid
   * shop.order_state
   */
  state: ShopOrderState | null;
  /** timestamp with time zone */
  "noted at": string | null;
}

/** shop.order_state */
export type ShopOrderState = "new" | "paid";
`;

function orders() {
  const columns = [
    column("id", { type: INTEGER, typeText: "integer", notNull: true }),
    column("state", { type: "e1", typeText: "shop.order_state", comment: "new,\nthen paid" }),
    column("noted at", { type: TIME, typeText: "timestamp with time zone" }),
  ];
  return typesOf([table("shop", "order_items", { comment: "What was ordered", columns })], { key: ["id"] });
}

function typesOf(
  tables: readonly ObservedTable[],
  {
    context = { query: false },
    operations = [...OPERATIONS],
    key = [],
  }: Partial<Pick<DesiredTable, "operations">> & { context?: ContextSpec; key?: readonly string[] } = {},
) {
  return eventTypes({
    tables: tables.map(({ schema, name }) => ({
      schema,
      name,
      isPartition: false,
      root: { schema, name },
      level: "Statement" as const,
      writtenAgain: false,
      operations,
      about: aboutTable(key, "", ""),
      rule: "",
      when: {},
      settingsMatter: false,
      replicated: false,
    })),
    relations: tables.map(({ schema, name }) => observedRelation(name, { schema, key, columns: [] })),
    columns: {
      tables,
      types: [
        type(INTEGER),
        type(TEXT),
        type(TIME),
        type("e0", { name: "nothing", labels: [] }),
        type("e1", { schema: "shop", name: "order_state", labels: ["new", "paid"] }),
        type("eh", { name: "hostile", labels: HOSTILE }),
      ],
    },
    context,
    reserved: TYPESCRIPT_NAMES,
  });
}

function table(schema: string, name: string, changes: Partial<ObservedTable> = {}): ObservedTable {
  return { schema, name, comment: null, columns: [column("a")], ...changes };
}

function column(name: string, changes: Partial<ObservedTableColumn> = {}): ObservedTableColumn {
  const plain = { type: TEXT, typmod: -1, typeText: "text", notNull: false, virtual: false, comment: null };
  return { name, ...plain, ...changes };
}

function type(id: string, changes: Partial<ObservedType> = {}): ObservedType {
  return {
    id,
    schema: "p",
    name: id,
    base: null,
    element: null,
    labels: null,
    attributes: null,
    ofTable: false,
    castToJson: false,
    extension: null,
    ...changes,
  };
}
