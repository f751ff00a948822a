import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Entry, NOTHING, type ReadEvent, type Unit } from "../../src/core/delivery/entry.ts";
import { type RelayOptions, RelayState } from "../../src/core/delivery/relay-state.ts";

const START = { seen: "10:10:", ahead: null, aheadId: null };
const OK = { kind: "acknowledged", code: "200" } as const;
const RETRY = { kind: "retryable", code: "500", message: "later" } as const;
const every = () => true;

function event(id: number, key: string | null, changes: Partial<ReadEvent["event"]> = {}): ReadEvent {
  const full = {
    ...NOTHING,
    id: String(id),
    transactionId: "5",
    schema: "public",
    table: "t",
    key,
    ...changes,
  };
  return { event: full, bytes: 10, deferred: false };
}

function options(changes: Partial<RelayOptions> = {}): RelayOptions {
  return {
    ordering: "Key",
    maxEvents: 1,
    maxBytes: 1_000_000,
    maxWaitMs: 0,
    maxInFlight: 4,
    attempts: 50,
    maxParked: 100,
    backoffMs: () => 500,
    ...changes,
  };
}

const ids = (entries: readonly Entry[]) => entries.map(({ id }) => id);
const sent = (state: RelayState, unit: Unit | null) => (unit === null ? [] : ids(state.payload(unit)));

/** Sends what is to be sent; what carries this key fails. @returns the ids that went through */
function send(state: RelayState, nowMs: number, failing: string | null): string[] {
  const done: string[] = [];
  for (let unit = state.next(nowMs); unit !== null; unit = state.next(nowMs)) {
    const [entry] = state.payload(unit);
    const fails = failing !== null && entry?.event.key === failing;
    if (!fails) done.push(...sent(state, unit));
    state.settle(unit, fails ? RETRY : OK, nowMs);
  }
  return done;
}

/** What the shell does, with a database that has every row. */
function park(state: RelayState, nowMs: number): string[] {
  const parked: string[] = [];
  for (let some = state.toPark(nowMs); some.length > 0; some = state.toPark(nowMs)) {
    parked.push(...ids(some));
    state.park(some, [], nowMs);
  }
  return parked;
}

describe("parking", () => {
  test("G2 a key that fails while others succeed is parked with what follows it; the position goes on", () => {
    const state = new RelayState(options(), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[1]"), event(3, "[2]"), event(4, "[3]")], true, 0, every);
    assert.deepEqual(send(state, 0, "[1]"), ["3", "4"]);
    assert.deepEqual(park(state, 0), [], "it may pass by itself");
    assert.equal(state.position().seen, "10:10:");
    state.add("30:30:", [event(5, "[2]")], true, 1500, every);
    assert.deepEqual(send(state, 1500, "[1]"), ["5"]);
    assert.deepEqual(park(state, 1500), ["1", "2"]);
    assert.equal(state.position().seen, "30:30:");
    state.add("40:40:", [event(6, "[1]"), event(7, "[2]")], true, 1600, every);
    assert.deepEqual(send(state, 1600, "[1]"), ["7"]);
    assert.deepEqual(park(state, 1600), ["6"]);
    assert.deepEqual([state.position().seen, state.parked], ["40:40:", 3]);
    assert.deepEqual(send(state, 3000, null), ["1", "2", "6"], "in order once it succeeds");
    assert.deepEqual([state.parked, state.failing], [0, false]);
  });

  test("G2 events of one key that went along in one batch are parked in order", () => {
    const state = new RelayState(options({ maxEvents: 10 }), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[1]"), event(3, "[1]"), event(4, "[2]")], true, 0, every);
    const batch = state.next(0) as Unit;
    assert.deepEqual(sent(state, batch), ["1", "2", "3", "4"]);
    state.settle(batch, RETRY, 0);
    state.add("30:30:", [event(5, "[3]")], true, 1500, every);
    const other = state.next(10) as Unit;
    state.settle(other, OK, 1500);
    assert.deepEqual(park(state, 1500), ["1", "2", "3", "4"]);
    const [one, four] = [state.next(3000), state.next(3000)] as [Unit, Unit];
    assert.deepEqual([sent(state, one), sent(state, four), state.next(3000)], [["1"], ["4"], null]);
    state.settle(four, OK, 3000);
    state.settle(one, OK, 3000);
    assert.deepEqual(send(state, 3000, null), ["2", "3"]);
  });

  test("where nothing succeeds nothing is parked", () => {
    const state = new RelayState(options(), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]"), event(3, "[3]"), event(4, "[4]")], true, 0, every);
    for (let nowMs = 0; nowMs < 60_000; nowMs += 500) {
      for (let unit = state.next(nowMs); unit !== null; unit = state.next(nowMs))
        state.settle(unit, RETRY, nowMs);
      assert.deepEqual(park(state, nowMs), []);
    }
    assert.equal(state.position().seen, "10:10:");
  });

  test("a Truncate behind a parked key waits for it, and what comes after waits for the Truncate; none of them is parked", () => {
    const state = new RelayState(options(), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]")], true, 0, every);
    send(state, 0, "[1]");
    state.add("30:30:", [event(3, "[2]")], true, 1500, every);
    send(state, 1500, "[1]");
    assert.deepEqual(park(state, 1500), ["1"]);
    const truncate = event(4, null, { operation: "Truncate" });
    state.add("40:40:", [truncate, event(5, "[1]"), event(6, "[7]")], true, 1600, every);
    assert.deepEqual(send(state, 1600, "[1]"), []);
    assert.deepEqual(park(state, 1600), []);
    assert.equal(state.position().seen, "30:30:");
    assert.deepEqual(send(state, 3000, null), ["1", "4", "5", "6"]);
    assert.equal(state.position().seen, "40:40:");
  });

  test("G1 at the limit the position stands still instead of anything being lost", () => {
    const state = new RelayState(options({ maxParked: 2 }), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]")], true, 0, every);
    send(state, 0, "[1]");
    state.add(
      "30:30:",
      [2, 3, 4, 5].map((id) => event(id + 1, id === 2 ? "[2]" : "[1]")),
      true,
      1500,
      every,
    );
    send(state, 1500, "[1]");
    assert.deepEqual(park(state, 1500), ["1", "4"]);
    assert.deepEqual(state.position(), { seen: "20:20:", ahead: "30:30:", aheadId: "4" });
    assert.deepEqual(send(state, 3000, null), ["1", "4", "5", "6"]);
    assert.equal(state.position().seen, "30:30:");
  });

  test("G1 G2 what lies parked at the start goes first in its key, is not sent twice, and new events of its key are parked behind it", () => {
    const parked = [1, 4].map((id) => ({ event: event(id, "[1]").event, bytes: 10, attempts: 3 }));
    const state = new RelayState(options(), START, parked);
    state.add("20:20:", [event(4, "[1]"), event(5, "[1]"), event(6, "[2]")], true, 0, every);
    assert.deepEqual(park(state, 0), ["5"]);
    assert.deepEqual(send(state, 1, "[1]"), ["6"]);
    assert.equal(state.position().seen, "20:20:");
    assert.deepEqual(send(state, 1000, null), ["1", "4", "5"]);
    assert.equal(state.parked, 0);
  });

  test("G5 what is passed beyond the position is told, and not sent again by the relay that goes on from there", () => {
    const rows = () => [event(1, "[1]"), event(2, "[1]"), event(3, "[2]"), event(4, "[3]")];
    const state = new RelayState(options({ maxInFlight: 2 }), START);
    state.add("20:20:", rows(), true, 0, every);
    const [one, three] = [state.next(0), state.next(0)] as [Unit, Unit];
    assert.deepEqual([sent(state, one), sent(state, three)], [["1"], ["3"]]);
    state.settle(three, OK, 1);
    state.settle(one, RETRY, 1);
    assert.deepEqual([state.position(), state.passedBeyond()], [START, ["3"]]);
    const next = new RelayState(options(), START, [], state.passedBeyond());
    assert.deepEqual(next.passedBeyond(), ["3"], "also when it ends before it has read that far");
    next.add("20:20:", rows(), true, 0, every);
    assert.deepEqual([next.pending, next.passedBeyond()], [3, ["3"]]);
    assert.deepEqual(send(next, 0, null), ["1", "2", "4"]);
    assert.deepEqual([next.position().seen, next.passedBeyond()], ["20:20:", []]);
  });

  test("G5 what is parked beyond the position is passed as well", () => {
    const state = new RelayState(options({ maxInFlight: 2 }), START);
    state.add("20:20:", [event(1, "[1]"), event(2, "[2]"), event(3, "[3]")], true, 0, every);
    const slow = state.next(0) as Unit;
    assert.deepEqual(send(state, 0, "[2]"), ["3"]);
    assert.deepEqual(park(state, 1500), ["2"]);
    assert.deepEqual([sent(state, slow), state.position(), state.passedBeyond()], [["1"], START, ["2", "3"]]);
  });
});
