import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ReadEvent, Unit } from "../../src/core/delivery/entry.ts";
import type { Ordering } from "../../src/core/delivery/key-order.ts";
import { type RelayOptions, RelayState } from "../../src/core/delivery/relay-state.ts";
import type { ChangeEvent } from "../../src/core/event.ts";

const START = { seen: "10:10:", ahead: null, aheadId: null };
const OK = { kind: "acknowledged", code: "200" } as const;
const RETRY = { kind: "retryable", code: "500", message: "later" } as const;
const INTERRUPTED = { kind: "interrupted", code: "thread", message: "another one did it" } as const;
const REFUSED = { kind: "permanent", code: "422", message: "never" } as const;

function event(id: number, key: string | null, changes: Partial<ChangeEvent> = {}): ReadEvent {
  const full: ChangeEvent = {
    id: String(id),
    transactionId: "5",
    time: "2026-01-01T00:00:00Z",
    operation: "Update",
    schema: "public",
    table: "t",
    key,
    oldKey: null,
    schemaVersion: null,
    old: null,
    new: "{}",
    context: "{}",
    ...changes,
  };
  return { event: full, bytes: 10, deferred: false };
}

function relay(options: Partial<RelayOptions> = {}): RelayState {
  const defaults: RelayOptions = {
    ordering: "Key",
    maxEvents: 1,
    maxBytes: 1_000_000,
    maxWaitMs: 0,
    maxInFlight: 16,
    attempts: 3,
    maxParked: 100,
    backoffMs: () => 100,
  };
  return new RelayState({ ...defaults, ...options }, START);
}

const every = () => true;
const sent = (state: RelayState, unit: Unit | null) =>
  unit === null ? [] : state.payload(unit).map(({ id }) => id);

function take(state: RelayState, nowMs: number): Unit {
  const unit = state.next(nowMs);
  assert.ok(unit !== null, "something to send");
  return unit;
}

describe("relay state", () => {
  test("G2 an event waits for the earlier one of its key; other keys go on", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]"), event(2, "[1]"), event(3, "[2]")], true, 0, every);
    const first = take(state, 0);
    assert.deepEqual(sent(state, first), ["1"]);
    assert.deepEqual(sent(state, take(state, 0)), ["3"]);
    assert.equal(state.next(0), null);
    state.settle(first, OK, 1);
    assert.deepEqual(sent(state, take(state, 1)), ["2"]);
  });

  test("G2 an update that changes the key is ordered with both keys", () => {
    const state = relay();
    const moved = event(3, "[2]", { oldKey: "[1]" });
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]"), moved, event(4, "[1]")], true, 0, every);
    const one = take(state, 0);
    const two = take(state, 0);
    assert.equal(state.next(0), null);
    state.settle(one, OK, 0);
    assert.equal(state.next(0), null, "still waits for the other key");
    state.settle(two, OK, 0);
    const three = take(state, 0);
    assert.deepEqual(sent(state, three), ["3"]);
    assert.equal(state.next(0), null, "the old key waits for the move");
    state.settle(three, OK, 0);
    assert.deepEqual(sent(state, take(state, 0)), ["4"]);
  });

  for (const operation of ["Truncate", "SchemaChange"] as const) {
    test(`G2 a ${operation} comes after everything before it and before everything after it, of its table`, () => {
      const state = relay();
      const barred = event(3, null, { operation, new: null });
      const other = event(4, "[1]", { table: "other" });
      state.add("20:20:", [event(1, "[1]"), event(2, "[2]"), barred, other, event(5, "[3]")], true, 0, every);
      const one = take(state, 0);
      const two = take(state, 0);
      assert.deepEqual(sent(state, take(state, 0)), ["4"], "another table goes on");
      assert.equal(state.next(0), null);
      state.settle(one, OK, 0);
      state.settle(two, OK, 0);
      const barrier = take(state, 0);
      assert.deepEqual(sent(state, barrier), ["3"]);
      assert.equal(state.next(0), null);
      state.settle(barrier, OK, 0);
      assert.deepEqual(sent(state, take(state, 0)), ["5"]);
    });
  }

  test("G2 a Truncate of a partition comes in the order of the whole table", () => {
    const state = relay();
    const context = JSON.stringify({ root: { schema: "public", table: "t" } });
    const truncate = event(2, null, { operation: "Truncate", new: null, table: "t_1", context });
    state.add("20:20:", [event(1, "[1]"), truncate, event(3, "[1]")], true, 0, every);
    for (const id of ["1", "2", "3"]) {
      const unit = take(state, 0);
      assert.deepEqual([sent(state, unit), state.next(0)], [[id], null]);
      state.settle(unit, OK, 0);
    }
  });

  test("one at a time, events go in the order of the log, also those that had to wait for others", () => {
    const state = relay({ maxInFlight: 1 });
    const created = event(1, null, { operation: "SchemaChange", table: "new" });
    const rows = [
      created,
      event(2, "[1]", { table: "new" }),
      event(3, "[1]"),
      event(4, "[1]"),
      event(5, "[2]"),
    ];
    state.add("20:20:", rows, true, 0, every);
    const order: string[] = [];
    for (let unit = state.next(0); unit !== null; unit = state.next(0)) {
      order.push(...sent(state, unit));
      state.settle(unit, OK, 0);
    }
    assert.deepEqual(order, ["1", "2", "3", "4", "5"]);
  });

  test("G1 the position never passes an event that is not done", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]"), event(3, "[3]")], true, 0, every);
    const [one, two, three] = [take(state, 0), take(state, 0), take(state, 0)];
    state.settle(three, OK, 0);
    assert.deepEqual(state.position(), START);
    state.settle(one, OK, 0);
    assert.deepEqual(state.position(), { seen: "10:10:", ahead: "20:20:", aheadId: "1" });
    state.settle(two, OK, 0);
    assert.deepEqual(state.position(), { seen: "20:20:", ahead: null, aheadId: null });
  });

  test("a window that is not read to its end is not passed", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]")], false, 0, every);
    state.settle(take(state, 0), OK, 0);
    assert.deepEqual(state.position(), { seen: "10:10:", ahead: "20:20:", aheadId: "1" });
    state.add("20:20:", [], true, 0, every);
    assert.deepEqual(state.position(), { seen: "20:20:", ahead: null, aheadId: null });
  });

  test("events that the callback does not want are passed over", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]")], true, 0, () => false);
    assert.equal(state.next(0), null);
    assert.equal(state.position().seen, "20:20:");
  });

  test("a failure waits for its backoff, then becomes a dead letter when its attempts are used up", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]")], true, 0, every);
    let unit = take(state, 0);
    assert.equal(state.settle(unit, RETRY, 0).kind, "waiting");
    assert.equal(state.next(50), null);
    assert.equal(state.dueMs(50), 100);
    unit = take(state, 100);
    state.settle(unit, RETRY, 100);
    unit = take(state, 200);
    const settled = state.settle(unit, RETRY, 200);
    assert.equal(settled.kind, "bury");
    assert.equal(state.position().seen, "10:10:", "not before the dead letter is stored");
    state.buried(unit, 200);
    assert.equal(state.position().seen, "20:20:");
  });

  test("an attempt that another one cut off is made again at once, and is not counted", () => {
    const state = relay({ attempts: 2 });
    state.add("20:20:", [event(1, "[1]")], true, 0, every);
    for (let count = 0; count < 5; count += 1) {
      assert.deepEqual(state.settle(take(state, 0), INTERRUPTED, 0), { kind: "waiting" });
      assert.equal(state.dueMs(0), 0);
    }
    assert.equal(state.settle(take(state, 0), RETRY, 0).kind, "waiting");
    assert.equal(state.settle(take(state, 100), RETRY, 100).kind, "bury");
  });

  test("an endpoint that takes nothing is probed by one request at a time, of different keys", () => {
    const state = relay({ attempts: 100 });
    const rows = Array.from({ length: 20 }, (_, index) => event(index + 1, `[${index}]`));
    state.add("20:20:", rows, true, 0, every);
    const flying: Unit[] = [];
    for (let unit = state.next(0); unit !== null; unit = state.next(0)) flying.push(unit);
    assert.equal(flying.length, 16);
    for (const unit of flying) state.settle(unit, RETRY, 0);
    const probed: string[] = [];
    for (let nowMs = 100; nowMs <= 1000; nowMs += 100) {
      const probe = take(state, nowMs);
      assert.equal(state.next(nowMs), null, "one at a time");
      probed.push(...sent(state, probe));
      state.settle(probe, RETRY, nowMs);
    }
    assert.ok(new Set(probed).size > 5, `probes go round: ${probed}`);
    const last = take(state, 1100);
    state.settle(last, OK, 1100);
    assert.ok(state.next(1200) !== null && state.next(1200) !== null, "open again");
  });

  test("G2 where only keys that fail were tried, others that come are tried in turn with them", () => {
    const state = relay({ attempts: 100 });
    const failing = [1, 2, 3].map((id) => event(id, `[${id}]`));
    state.add("20:20:", failing, true, 0, every);
    for (const unit of failing.map(() => take(state, 0))) state.settle(unit, RETRY, 0);
    state.settle(take(state, 100), RETRY, 100);
    state.add("30:30:", [event(4, "[4]"), event(5, "[5]")], true, 100, every);
    const other = take(state, 200);
    assert.deepEqual(sent(state, other), ["4"]);
    state.settle(other, RETRY, 200);
    const probe = take(state, 300);
    assert.equal(Number(sent(state, probe)[0]) < 5, true, "what failed has its turn");
    state.settle(probe, RETRY, 300);
    const another = take(state, 400);
    assert.deepEqual(sent(state, another), ["5"]);
    state.settle(another, OK, 400);
    assert.ok(state.next(400) !== null && state.next(400) !== null, "open again");
  });

  test("a probe that another one cut off does not close the endpoint for good", () => {
    const state = relay({ attempts: 100 });
    state.add(
      "20:20:",
      [1, 2, 3].map((id) => event(id, `[${id}]`)),
      true,
      0,
      every,
    );
    for (const unit of [take(state, 0), take(state, 0), take(state, 0)]) state.settle(unit, RETRY, 0);
    const probe = take(state, 100);
    assert.equal(state.next(100), null, "one probe at a time");
    state.settle(probe, { ...INTERRUPTED, retryAfterMs: 30 }, 100);
    assert.equal(state.next(120), null);
    assert.equal(state.dueMs(120), 130);
    assert.ok(state.next(130) !== null);
  });

  test("Retry-After is kept", () => {
    const state = relay();
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]")], true, 0, every);
    state.settle(take(state, 0), { ...RETRY, retryAfterMs: 5000 }, 0);
    assert.equal(state.next(4999), null);
    assert.ok(state.next(5000) !== null);
  });

  test("a refused batch is taken apart; only the refused event is a dead letter", () => {
    const state = relay({ maxEvents: 10 });
    state.add("20:20:", [event(1, "[1]"), event(2, "[1]"), event(3, "[2]")], true, 0, every);
    const unit = take(state, 0);
    assert.deepEqual(sent(state, unit), ["1", "2", "3"]);
    state.settle(unit, REFUSED, 0);
    const letters: string[] = [];
    for (let again = state.next(0); again !== null; again = state.next(0)) {
      const [id] = sent(state, again);
      const settled = state.settle(again, id === "2" ? REFUSED : OK, 0);
      if (settled.kind !== "bury") continue;
      letters.push(settled.entry.id);
      state.buried(again, 0);
    }
    assert.deepEqual(letters, ["2"]);
    assert.equal(state.position().seen, "20:20:");
  });

  test("batches respect the limits of events and bytes, and wait to fill", () => {
    const state = relay({ maxEvents: 3, maxBytes: 25, maxWaitMs: 50 });
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]")], true, 0, every);
    assert.equal(state.next(10), null);
    assert.equal(state.dueMs(10), 50);
    assert.deepEqual(sent(state, take(state, 50)), ["1", "2"]);
    state.add(
      "30:30:",
      [3, 4, 5].map((id) => event(id, `[${id}]`)),
      true,
      60,
      every,
    );
    assert.deepEqual(sent(state, take(state, 60)), ["3", "4"], "10 bytes each, 25 allowed");
  });

  test("G1 G2 whatever the outcomes: nothing is lost, keys stay in order, the position is a prefix", () => {
    const scenario = fc.record({
      keys: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 60 }),
      windows: fc.integer({ min: 1, max: 6 }),
      ordering: fc.constantFrom<Ordering>("Key", "Source", "None"),
      maxEvents: fc.integer({ min: 1, max: 7 }),
      maxInFlight: fc.integer({ min: 1, max: 5 }),
      luck: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 200, maxLength: 400 }),
    });
    fc.assert(fc.property(scenario, runScenario), { numRuns: 300 });
  });
});

interface Scenario {
  readonly keys: number[];
  readonly windows: number;
  readonly ordering: Ordering;
  readonly maxEvents: number;
  readonly maxInFlight: number;
  readonly luck: number[];
}

function runScenario({ keys, windows, ordering, maxEvents, maxInFlight, luck }: Scenario): void {
  const state = relay({ ordering, maxEvents, maxInFlight, attempts: 4 });
  const rows = keys.map((key, index) =>
    event(
      index + 1,
      key === 4 ? null : `[${key}]`,
      key === 3 && index % 7 === 0 ? { operation: "Truncate", key: null } : {},
    ),
  );
  const size = Math.ceil(rows.length / windows);
  for (let at = 0; at < rows.length; at += size)
    state.add(`${20 + at}:${20 + at}:`, rows.slice(at, at + size), true, 0, every);
  const done: number[] = [];
  const flying: Unit[] = [];
  let dice = 0;
  for (let nowMs = 0; done.length < rows.length; nowMs += 100) {
    assert.ok(nowMs < 1_000_000, "it comes to an end");
    for (let unit = state.next(nowMs); unit !== null; unit = state.next(nowMs)) flying.push(unit);
    const which = flying.splice((luck[dice++ % luck.length] ?? 0) % Math.max(1, flying.length), 1)[0];
    if (which === undefined) continue;
    const carried = state.payload(which).map(({ id }) => Number(id));
    const roll = luck[dice++ % luck.length] ?? 0;
    const settled = state.settle(which, roll < 6 ? OK : roll < 9 ? RETRY : REFUSED, nowMs);
    if (settled.kind === "bury") {
      done.push(Number(settled.entry.id));
      state.buried(which, nowMs);
    } else if (roll < 6) {
      done.push(...carried);
    }
    const { aheadId } = state.position();
    if (aheadId !== null)
      for (let id = 1; id <= Number(aheadId); id += 1)
        assert.ok(done.includes(id), `${id} is behind the position`);
  }
  assert.equal(new Set(done).size, rows.length, "each once");
  assert.equal(state.pending, 0);
  if (ordering === "None") return;
  const keyOf = (id: number) => (ordering === "Source" ? "" : String(rows[id - 1]?.event.key));
  for (const key of new Set(done.map(keyOf))) {
    const ofKey = done.filter((id) => keyOf(id) === key);
    assert.deepEqual(
      ofKey,
      [...ofKey].sort((a, b) => a - b),
    );
  }
}
