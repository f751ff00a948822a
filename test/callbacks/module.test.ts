import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { classicPayload } from "../../src/core/delivery/classic.ts";
import { structuredBody } from "../../src/core/delivery/cloudevents.ts";
import type { AttemptOutcome } from "../../src/core/delivery/transport.ts";
import { type ChangeEvent, stableEventId } from "../../src/core/event.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { assertOutcome, type Behaviour, exerciseTransport } from "./conformance.ts";
import { answerFor } from "./http-endpoint.ts";
import {
  forwardingModule,
  LOGGING,
  logOf,
  type ModuleSetup,
  modeEvent,
  moduleCallback,
} from "./module-endpoint.ts";

const never = new AbortController().signal;
const SAMPLE = join(import.meta.dirname, "../../deploy/samples/module.yaml");

exerciseTransport("module", {
  start: async (t, { timeoutSeconds }) => {
    let behaviour: Behaviour = "Accept";
    const receiver = await startReceiver(t, { respond: () => answerFor(behaviour) });
    const text = forwardingModule(receiver.url);
    const { transport, write, remove } = moduleCallback(t, text, { delivery: { timeoutSeconds } });
    return {
      transport,
      accepted: async () => receiver.events,
      messages: async () => receiver.requests.map(({ body }) => body),
      behave: async (next) => {
        if (next === "Gone") remove();
        if (behaviour === "Gone" && next !== "Gone") write(text);
        behaviour = next;
      },
    };
  },
});

/** Delivers one event to a module with this text; the outcome, and what it logged. */
async function deliverTo(
  t: TestContext,
  text: string,
  { event = changeEvent(), ...setup }: ModuleSetup & { event?: ChangeEvent } = {},
): Promise<{ outcome: AttemptOutcome; logged: unknown[]; file: string }> {
  const { transport, file } = moduleCallback(t, text, setup);
  const outcome = await transport.deliver([event], never);
  return { outcome, logged: logOf(file), file };
}

describe("what the functions get", () => {
  const all = `${LOGGING}
    export function onData(event, { signal, ...context }) { log({ event, context, aborted: signal.aborted }); }
    export const onSchemaChange = async (event, { id }) => log({ change: event, id });`;
  const event = changeEvent({ operation: "Update", old: '{"id":1}', new: '{"id":2}' });
  const change = changeEvent({ operation: "SchemaChange", new: '{"command":"ALTER TABLE"}', key: null });
  const context = (json: string) => ({ id: stableEventId(ORIGIN, event), callback: "orders", json });

  test("CloudEvents: the object of the structured event, its text, id and callback", async (t) => {
    const { outcome, logged } = await deliverTo(t, all, { event });
    assertOutcome(outcome, "acknowledged", "ok");
    const json = structuredBody(ORIGIN, event);
    assert.deepEqual(logged, [{ event: JSON.parse(json), context: context(json), aborted: false }]);
  });

  test("Classic: the object of the Python tool", async (t) => {
    const { outcome, logged } = await deliverTo(t, all, { event, format: "Classic" });
    assertOutcome(outcome, "acknowledged");
    const json = classicPayload(event);
    assert.deepEqual(logged, [{ event: JSON.parse(json), context: context(json), aborted: false }]);
  });

  test("changes of the schema go to onSchemaChange; without one they are acknowledged", async (t) => {
    const { outcome, logged } = await deliverTo(t, all, { event: change });
    assertOutcome(outcome, "acknowledged");
    assert.deepEqual(logged, [
      { change: JSON.parse(structuredBody(ORIGIN, change)), id: stableEventId(ORIGIN, change) },
    ]);
    const without = await deliverTo(t, `${LOGGING} export const onData = log;`, { event: change });
    assertOutcome(without.outcome, "acknowledged");
    assert.deepEqual(without.logged, []);
  });

  test("numbers keep their digits in context.json", async (t) => {
    const row = '{"id":1,"total":12345678901234567890.1200}';
    const text = `${LOGGING} export const onData = (event, { json }) => log([event.data.new.total, json]);`;
    const { logged } = await deliverTo(t, text, { event: changeEvent({ new: row }) });
    const [rounded, json] = logged[0] as [number, string];
    assert.equal(rounded, 12345678901234567000);
    assert.ok(json.includes(row));
  });

  test("functions of classic settings get text, also those of a default export", async (t) => {
    const text = `${LOGGING}
      export const handle = (text, { callback }) => log([typeof text, text, callback]);
      export default { schema(text) { log(["schema", this !== undefined]); } };`;
    const functions = (file: string) =>
      ({
        kind: "Functions",
        onData: { file, exportName: "handle" },
        onSchemaChange: { file, exportName: "schema" },
      }) as const;
    const { transport, file } = moduleCallback(t, text, { format: "Classic", functions });
    assertOutcome(await transport.deliver([event], never), "acknowledged");
    assertOutcome(await transport.deliver([change], never), "acknowledged");
    assert.deepEqual(logOf(file), [
      ["string", classicPayload(event), "orders"],
      ["schema", true],
    ]);
  });

  test("the signal is aborted when the time is over: what heeds it keeps its thread", async (t) => {
    const text = `${LOGGING} log("loaded"); export const onData = (event, { signal }) => new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    });`;
    const { transport, file } = moduleCallback(t, text, { delivery: { timeoutSeconds: 1 } });
    for (const id of ["1", "2"]) {
      const outcome = await transport.deliver([changeEvent({ id })], never);
      assertOutcome(outcome, "retryable", "thrown");
      assert.match(messageOf(outcome), /^onData threw TimeoutError/);
    }
    assert.deepEqual(logOf(file), ["loaded"]);
  });
});

describe("kinds of files", () => {
  const kinds: [string, string][] = [
    ["index.mjs", `${LOGGING} export const onData = (event) => log(event.id);`],
    ["index.js", `${LOGGING} export const onData = (event) => log(event.id);`],
    [
      "index.ts",
      `${LOGGING.replace("(value)", "(value: unknown)")} export const onData = (event: { id: string }): void => log(event.id);`,
    ],
    [
      "index.cjs",
      `const { appendFileSync } = require("node:fs");
       module.exports = { onData(event) { appendFileSync(__dirname + "/log", JSON.stringify(event.id) + "\\n"); } };`,
    ],
    [
      "class.mjs",
      `${LOGGING} class Sink { last = null; onData(event) { this.last = event.id; log(this.last); } } export default new Sink();`,
    ],
  ];
  for (const [name, text] of kinds) {
    test(name, async (t) => {
      const { outcome, logged } = await deliverTo(t, text, { name });
      assertOutcome(outcome, "acknowledged");
      assert.deepEqual(logged, [stableEventId(ORIGIN, changeEvent())]);
    });
  }
});

describe("a module that cannot be loaded says why, and is tried again", () => {
  const cases: [string, string, RegExp][] = [
    [
      "a syntax error",
      "export function onData() {\n  const a = ;\n}",
      /index\.mjs cannot be loaded: SyntaxError: Unexpected token ';' \(`node --check` shows the line\)/,
    ],
    [
      "an import of what is not exported",
      "\nimport { nothing } from 'node:fs'; export const onData = nothing;",
      /SyntaxError: The requested module 'node:fs' does not provide an export named 'nothing' \(line 2\)/,
    ],
    [
      "a package that is not there",
      "import 'left-pad-of-nobody'; export const onData = () => 1;",
      /Cannot find package 'left-pad-of-nobody'/,
    ],
    [
      "no onData",
      "export const ondata = () => 1;",
      /index\.mjs exports no function `onData`\. Correct the file; it is tried again$/,
    ],
    ["an onData that is no function", "export const onData = 1;", /exports no function `onData`/],
    [
      "a throw",
      "\nthrow new TypeError('hunter2')",
      /index\.mjs cannot be loaded: it throws TypeError at index\.mjs:2:7\./,
    ],
    [
      "a throw of a parser that shows its input",
      "JSON.parse('hunter2')",
      /it throws SyntaxError at index\.mjs:1:6\./,
    ],
    [
      "process.exit",
      "process.exit(0); export const onData = () => 1;",
      /it ended before it was loaded: it calls process\.exit, or waits/,
    ],
    [
      "a promise that nobody settles",
      "await new Promise(() => {}); export const onData = () => 1;",
      /it ended before it was loaded/,
    ],
    [
      "too much memory",
      "const a = []; for (;;) a.push({ a: [] }); export const onData = () => 1;",
      /far more memory/,
    ],
  ];
  for (const [what, text, message] of cases) {
    test(what, async (t) => {
      const { transport, write } = moduleCallback(t, text);
      const outcome = await transport.deliver([changeEvent()], never);
      assertOutcome(outcome, "retryable", "module");
      assert.match(messageOf(outcome), /^the module of callback orders is not loaded: /);
      assert.match(messageOf(outcome), message);
      assert.doesNotMatch(messageOf(outcome), /hunter2/);
      write("export const onData = () => 1;");
      assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    });
  }

  test("a missing file", async (t) => {
    const { transport, remove, file } = moduleCallback(t, "");
    remove();
    const outcome = await transport.deliver([changeEvent()], never);
    assertOutcome(outcome, "retryable", "module");
    assert.ok(messageOf(outcome).includes(`there is no file ${file}`));
  });
});

describe("what functions do", () => {
  const MODES = `
    export function onData(event) {
      const row = event.data.new;
      const thrown = Object.assign(new TypeError("4711"), { code: "E_ORDERS" });
      switch (row.mode) {
        case "throw": throw thrown;
        case "reject": return Promise.reject(thrown);
        case "throw text": throw "4711";
        case "throw null": throw null;
        case "permanent": throw Object.assign(new Error("4711"), { permanent: true });
        case "lying name": throw Object.assign(new Error("4711"), { name: "4711 of the row", code: "a b" });
        case "lying stack": throw Object.assign(new Error(), { stack: "Error\\n    at x (/4711.mjs:1:2)" });
        case "async": return new Promise((resolve) => setTimeout(resolve, 20, "4711"));
        case "hang": return new Promise(() => {});
        case "loop": for (;;);
        case "microtasks": return (async () => { for (;;) await null; })();
        case "exit": process.exit(0);
        case "exit 3": return new Promise(() => setTimeout(() => process.exit(3), 5));
        case "timer": setTimeout(() => { throw thrown; }, 5); return new Promise(() => {});
        case "rejection": Promise.reject(thrown); return new Promise(() => {});
        case "posts": { const { parentPort } = process.getBuiltinModule("node:worker_threads"); for (const value of [null, "x", { kind: "Returned" }, { kind: "x" }]) parentPort.postMessage(value); return; }
        case "heap": { const all = []; for (;;) all.push({ all: [1, 2, 3] }); }
        case "map": { const all = new Map(); for (let i = 0; ; i += 1) all.set(i, i); }
        case "one large value": return Buffer.from("x".repeat(3e8)).length === 1 ? 0 : new Promise(() => {});
        case "strings": { const all = []; for (;;) all.push("x".repeat(1e6) + all.length); }
        case "buffers": { const all = []; for (;;) all.push(Buffer.alloc(1e6, 1)); }
        case "slow buffers": { const all = []; setInterval(() => all.push(Buffer.alloc(1e7, 1)), 1); return new Promise(() => {}); }
        case "garbage": { for (let i = 0; i < 3000; i += 1) Buffer.alloc(1e6, 1); return; }
      }
    }`;
  const THROWN = "onData threw TypeError (E_ORDERS) at index.mjs:4:36";
  const cases: [string, AttemptOutcome["kind"], string, RegExp?][] = [
    ["fine", "acknowledged", "ok"],
    ["async", "acknowledged", "ok"],
    ["garbage", "acknowledged", "ok"],
    ["posts", "acknowledged", "ok"],
    ["throw", "retryable", "thrown", new RegExp(`^${THROWN.replace(/[()]/g, "\\$&")}$`)],
    ["reject", "retryable", "thrown", /^onData threw TypeError \(E_ORDERS\) at index\.mjs:4:36$/],
    ["throw text", "retryable", "thrown", /^onData threw a value that is no error \(string\)$/],
    ["throw null", "retryable", "thrown", /^onData threw a value that is no error \(null\)$/],
    ["lying name", "retryable", "thrown", /^onData threw an object that is no error at index\.mjs/],
    ["lying stack", "retryable", "thrown", /^onData threw Error$/],
    ["permanent", "permanent", "thrown", /^onData threw Error at index\.mjs/],
    ["hang", "retryable", "timeout", /^onData did not answer within 1 s$/],
    ["loop", "retryable", "timeout"],
    ["microtasks", "retryable", "timeout"],
    ["exit", "retryable", "exit", /^the module ended its thread \(exit code 0\)$/],
    ["exit 3", "retryable", "exit", /exit code 3/],
    [
      "timer",
      "retryable",
      "crashed",
      /^outside of a call the module threw TypeError \(E_ORDERS\) at index\.mjs:4:36$/,
    ],
    ["rejection", "retryable", "crashed"],
    ["heap", "retryable", "memory", /more memory than its 64 MiB \(`memoryMegabytes`\)$/],
    ["map", "retryable", "memory"],
    ["one large value", "retryable", "memory"],
    ["strings", "retryable", "memory"],
    ["buffers", "retryable", "memory"],
    ["slow buffers", "retryable", "memory"],
  ];
  for (const [mode, kind, code, message] of cases) {
    test(`${mode}: ${kind}, ${code}; the next event is delivered`, async (t) => {
      const timeoutSeconds = code === "timeout" ? 1 : 20;
      const { transport } = moduleCallback(t, MODES, { delivery: { timeoutSeconds } });
      const outcome = await transport.deliver([modeEvent(1, mode)], never);
      assertOutcome(outcome, kind, code);
      if (message !== undefined) assert.match(messageOf(outcome), message);
      assert.doesNotMatch(messageOf(outcome), /4711/);
      assertOutcome(await transport.deliver([modeEvent(2, "fine")], never), "acknowledged");
    });
  }
});

test("the sample does what it says: rows that are new or changed are put, others deleted", async (t) => {
  const receiver = await startReceiver(t, { respond: (_, index) => [200, 404, 400][index] ?? 200 });
  const [configMap = ""] = readFileSync(SAMPLE, "utf8").split("\n---\n");
  const { data } = parse(configMap) as { data: Record<string, string> };
  const text = data["index.mjs"]?.replace("http://search.internal:9200", receiver.url) ?? "";
  const { transport } = moduleCallback(t, text);
  const deleted = changeEvent({ id: "2", operation: "Delete", old: '{"id":1}', new: null });
  assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  assertOutcome(await transport.deliver([deleted], never), "acknowledged");
  assertOutcome(await transport.deliver([changeEvent({ id: "3" })], never), "permanent");
  assert.deepEqual(
    receiver.requests.map(({ method, path, body }) => [method, path, body]),
    [
      ["PUT", "/orders/_doc/1", '{"id":1,"status":"new"}'],
      ["DELETE", "/orders/_doc/1", ""],
      ["PUT", "/orders/_doc/1", '{"id":1,"status":"new"}'],
    ],
  );
});

test("its environment is that of the worker, but for the database's URL", async (t) => {
  process.env.PG_EVENTS_DATABASE_URL = "postgres://u:hunter2@h/d";
  process.env.ORDERS_URL = "http://orders";
  t.after(() => {
    delete process.env.PG_EVENTS_DATABASE_URL;
    delete process.env.ORDERS_URL;
  });
  const text = `${LOGGING} export const onData = () => log([process.env, process.argv.slice(2)]);`;
  const { logged } = await deliverTo(t, text);
  const [environment, args] = logged[0] as [Record<string, string>, string[]];
  assert.equal(environment.ORDERS_URL, "http://orders");
  assert.ok(!JSON.stringify(environment).includes("hunter2"));
  assert.deepEqual(args, []);
});

describe("a file that changes", () => {
  const version = (number: number) => `${LOGGING}
    export async function onData(event) { await new Promise((done) => setTimeout(done, 20)); log(${number}); }`;

  test("is run from the next event on", async (t) => {
    const { transport, write, file } = moduleCallback(t, version(1));
    for (const number of [1, 2, 3]) {
      write(version(number));
      assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
      assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    }
    assert.deepEqual(logOf(file), [1, 1, 2, 2, 3, 3]);
  });

  test("is run within a second while events come one over the other; what is under way ends in the old one", async (t) => {
    const { transport, write, file } = moduleCallback(t, version(1));
    let on = true;
    const outcomes: AttemptOutcome[] = [];
    const stream = async () => {
      while (on) outcomes.push(await transport.deliver([changeEvent()], never));
    };
    const streams = [stream(), stream(), stream()];
    try {
      await eventually(() => logOf(file).length > 5);
      write(version(2));
      await eventually(() => logOf(file).includes(2), { timeoutMs: 5000 });
    } finally {
      on = false;
      await Promise.all(streams);
    }
    for (const outcome of outcomes) assertOutcome(outcome, "acknowledged");
    assert.equal(logOf(file).length, outcomes.length);
  });
});

function messageOf(outcome: AttemptOutcome): string {
  return outcome.kind === "acknowledged" ? "" : outcome.message;
}
