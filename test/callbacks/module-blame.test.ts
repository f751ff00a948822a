/** Several calls share a thread, and any of them can end it: only the one that does pays for it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Unit } from "../../src/core/delivery/entry.ts";
import { RelayState } from "../../src/core/delivery/relay-state.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import type { ChangeEvent } from "../../src/core/event.ts";
import { eventually } from "../support/processes.ts";
import { assertOutcome } from "./conformance.ts";
import { LOGGING, logOf, modeEvent, moduleCallback } from "./module-endpoint.ts";

const never = new AbortController().signal;

describe("a bad event among others", () => {
  const MODULE = `${LOGGING}
    import { setTimeout as sleep } from "node:timers/promises";
    log("loaded");
    export async function onData(event) {
      const { id, mode } = event.data.new;
      await sleep(20); // all are under way by now
      if (mode === "loop") for (;;);
      if (mode === "hang") await new Promise(() => {});
      if (mode === "exit") process.exit(0);
      if (mode === "crash") setTimeout(() => { throw new Error("4711"); });
      if (mode === "memory") { const all = []; for (;;) all.push(Buffer.alloc(1e6, 1)); }
      if (mode !== "fine") await sleep(10_000);
      await sleep(200);
      log(id);
    }`;

  for (const mode of ["loop", "hang", "exit", "crash", "memory"]) {
    test(`${mode}: none of the others becomes a dead letter, or fails even once`, async (t) => {
      const { transport, file } = moduleCallback(t, MODULE, {
        delivery: { timeoutSeconds: 1, maxInFlight: 8 },
      });
      const events = Array.from({ length: 24 }, (_, index) =>
        modeEvent(index + 1, index === 5 ? mode : "fine"),
      );
      const relayed = await relay(transport, events, { attempts: 3, maxInFlight: 8 });
      assert.deepEqual([...relayed.buried.keys()], ["6"]);
      assert.deepEqual(relayed.failures, new Map([["6", 3]]));
      const code = { loop: "timeout", hang: "timeout", exit: "exit", crash: "crashed", memory: "memory" }[
        mode
      ];
      assert.match(relayed.buried.get("6") ?? "", new RegExp(`^${code}: `));
      assert.equal(relayed.acknowledged.size, 23);
      // Its first attempt cuts off the others, its later ones nobody: they are made in threads of their own.
      const repeated = logOf(file).filter((entry) => entry !== "loaded").length - 23;
      assert.ok(repeated <= (mode === "hang" ? 0 : 7), `${repeated} events were repeated`);
    });
  }

  test("others go on while it is tried, and when many are bad", async (t) => {
    const { transport } = moduleCallback(t, MODULE, { delivery: { timeoutSeconds: 2, maxInFlight: 4 } });
    const bad = [1, 2, 3, 4].map((id) => modeEvent(id, "loop"));
    const first = await Promise.all(bad.map((one) => transport.deliver([one], never)));
    for (const outcome of first) assertOutcome(outcome, "interrupted", "interrupted");
    const again = bad.map((one) => transport.deliver([one], never));
    const waiting = await Promise.race(again);
    assertOutcome(waiting, "interrupted", "waiting");
    assert.equal(waiting.kind === "interrupted" && waiting.retryAfterMs, 1000);
    for (let id = 10; id < 14; id += 1)
      assertOutcome(await transport.deliver([modeEvent(id, "fine")], never), "acknowledged");
    const outcomes = await Promise.all(again);
    assert.deepEqual(outcomes.map(({ code }) => code).sort(), ["timeout", "timeout", "waiting", "waiting"]);
  });

  test("one that was cut off beside it and answers later shares the thread again", async (t) => {
    const { transport, file } = moduleCallback(t, MODULE);
    const both = [modeEvent(1, "exit"), modeEvent(2, "fine")].map((one) => transport.deliver([one], never));
    for (const outcome of await Promise.all(both)) assertOutcome(outcome, "interrupted");
    for (let count = 0; count < 3; count += 1)
      assertOutcome(await transport.deliver([modeEvent(2, "fine")], never), "acknowledged");
    assert.deepEqual(logOf(file), ["loaded", "loaded", 2, "loaded", 2, 2]);
  });
});

test("an attempt that is given up leaves its thread to those beside it, and later ones get another", async (t) => {
  const text = `${LOGGING} log("loaded");
    export const onData = (event) => new Promise((done) => {
      log(event.data.new.id);
      if (event.data.new.id !== 1) setTimeout(done, 300);
    });`;
  const { transport, file } = moduleCallback(t, text);
  const abort = new AbortController();
  const given = transport.deliver([modeEvent(1, "")], abort.signal);
  const beside = transport.deliver([modeEvent(2, "")], never);
  await eventually(() => logOf(file).length === 3);
  abort.abort();
  assertOutcome(await given, "retryable", "aborted");
  assertOutcome(await transport.deliver([modeEvent(3, "")], never), "acknowledged");
  assertOutcome(await beside, "acknowledged");
  assert.deepEqual(logOf(file), ["loaded", 1, 2, "loaded", 3]);
});

interface Relayed {
  readonly acknowledged: Set<string>;
  /** What was said of those that used up their attempts. */
  readonly buried: Map<string, string>;
  /** Attempts that count, by event. */
  readonly failures: Map<string, number>;
}

/** Relays events as the worker does, without a database, until none is left. */
async function relay(
  transport: Transport,
  events: readonly ChangeEvent[],
  limits: { readonly attempts: number; readonly maxInFlight: number },
): Promise<Relayed> {
  const { maxEvents, maxBytes } = transport;
  const options = {
    ordering: "Key",
    maxEvents,
    maxBytes,
    maxWaitMs: 0,
    maxParked: 0,
    backoffMs: () => 50,
    ...limits,
  } as const;
  const state = new RelayState(options, { seen: "10:10:", ahead: null, aheadId: null });
  const rows = events.map((one) => ({ event: one, bytes: 100, deferred: false }));
  state.add("20:20:", rows, true, performance.now(), () => true);
  const relayed: Relayed = { acknowledged: new Set(), buried: new Map(), failures: new Map() };
  const attempt = async (unit: Unit) => {
    const [one] = state.payload(unit).map((entry) => entry.event) as [ChangeEvent];
    const outcome = await transport.deliver([one], never);
    if (outcome.kind === "acknowledged") relayed.acknowledged.add(one.id);
    else if (outcome.kind !== "interrupted")
      relayed.failures.set(one.id, (relayed.failures.get(one.id) ?? 0) + 1);
    const settled = state.settle(unit, outcome, performance.now());
    if (settled.kind !== "bury") return;
    relayed.buried.set(one.id, settled.error);
    state.buried(unit, performance.now());
  };
  const underWay = new Set<Promise<void>>();
  while (state.pending > 0) {
    for (let unit = state.next(performance.now()); unit !== null; unit = state.next(performance.now())) {
      const settled: Promise<void> = attempt(unit).finally(() => underWay.delete(settled));
      underWay.add(settled);
    }
    const dueMs = state.dueMs(performance.now());
    const due = new Promise<void>((resolve) => {
      if (dueMs !== null) setTimeout(resolve, Math.max(1, dueMs - performance.now()));
    });
    await Promise.race([...underWay, due]);
  }
  return relayed;
}
