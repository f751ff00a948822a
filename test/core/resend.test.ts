/** What is delivered again, in the state of a relay: beside live events, in an order of its own or in that of its key. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NOTHING, type ParkedEvent, type ReadEvent } from "../../src/core/delivery/entry.ts";
import { type RelayOptions, RelayState } from "../../src/core/delivery/relay-state.ts";
import type { ChangeEvent, Resent } from "../../src/core/event.ts";

const START = { seen: "10:10:", ahead: null, aheadId: null };
const OK = { kind: "acknowledged", code: "200" } as const;
const RETRY = { kind: "retryable", code: "500", message: "later" } as const;
const NO = { kind: "permanent", code: "422", message: "no" } as const;
const REPLAY: Resent = { replay: 1, letter: null };
const AGAIN: Resent = { replay: 0, letter: null };

function eventOf(id: number, key: string | null, changes: Partial<ChangeEvent> = {}): ChangeEvent {
  return { ...NOTHING, id: String(id), transactionId: "5", schema: "public", table: "t", key, ...changes };
}

const live = (id: number, key: string | null): ReadEvent => ({
  event: eventOf(id, key),
  bytes: 10,
  deferred: false,
});

const again = (
  id: number,
  key: string | null,
  resent: Resent,
  changes: Partial<ChangeEvent> = {},
): ParkedEvent => ({
  event: eventOf(id, key, { new: '{"a":1}', ...changes, resent }),
  bytes: 10,
  attempts: 0,
  deferred: false,
});

function relay(changes: Partial<RelayOptions> = {}): RelayState {
  const options: RelayOptions = {
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
  return new RelayState(options, START);
}

const read = (state: RelayState, ...rows: ReadEvent[]) => state.add("40:40:", rows, true, 0, () => true);

/** All that may be in flight now. */
function inFlight(state: RelayState, nowMs = 0) {
  const units = [];
  for (let unit = state.next(nowMs); unit !== null; unit = state.next(nowMs)) units.push(unit);
  return units;
}

const idsOf = (units: ReturnType<typeof inFlight>) =>
  units.flatMap(({ entries }) => entries.map(({ id }) => id));

describe("delivered again", () => {
  test("replayed events of a row go one after the other; a live one of that row does not wait for them", () => {
    const state = relay();
    state.restore(again(1, "[1]", REPLAY));
    state.restore(again(2, "[1]", REPLAY));
    read(state, live(20, "[1]"));
    const units = inFlight(state);
    assert.deepEqual(idsOf(units).sort(), ["1", "20"]);
    for (const unit of units) state.settle(unit, OK, 0);
    assert.deepEqual(idsOf(inFlight(state)), ["2"]);
    assert.deepEqual([state.position().seen, state.takeUnparked(), state.resentLeft], ["40:40:", ["1"], 1]);
  });

  test("G2 a dead letter that is delivered again and a live event of the same row are never under way together", () => {
    const state = relay();
    read(state, live(20, "[1]"));
    state.restore(again(1, "[1]", AGAIN));
    const [unit, ...more] = inFlight(state);
    assert.ok(unit !== undefined);
    assert.deepEqual([unit.entries[0]?.id, more.length], ["20", 0]);
    state.settle(unit, OK, 0);
    assert.deepEqual(idsOf(inFlight(state)), ["1"]);
  });

  test("it takes turns with live events, and has half of the requests at most", () => {
    const state = relay();
    for (let id = 1; id <= 10; id += 1) state.restore(again(id, `[${id}]`, REPLAY));
    read(state, ...Array.from({ length: 10 }, (_, index) => live(20 + index, `[${index}]`)));
    assert.deepEqual(idsOf(inFlight(state)), ["1", "20", "2", "21"]);
    const alone = relay();
    for (let id = 1; id <= 10; id += 1) alone.restore(again(id, `[${id}]`, REPLAY));
    assert.deepEqual(idsOf(inFlight(alone)), ["1", "2"]);
    const one = relay({ maxInFlight: 1 });
    for (let id = 1; id <= 2; id += 1) one.restore(again(id, `[${id}]`, REPLAY));
    read(one, live(20, "[20]"), live(21, "[21]"));
    const order: string[] = [];
    for (let units = inFlight(one); units.length > 0; units = inFlight(one)) {
      order.push(...idsOf(units));
      for (const unit of units) one.settle(unit, OK, 0);
    }
    assert.deepEqual(order, ["1", "20", "2", "21"]);
  });

  test("a replayed Truncate divides nothing, and a live one does not wait for replayed rows", () => {
    const state = relay();
    state.restore(again(1, "[1]", REPLAY));
    state.restore(again(2, null, REPLAY, { operation: "Truncate" }));
    read(state, { ...live(20, null), event: eventOf(20, null, { operation: "Truncate" }) }, live(21, "[1]"));
    const units = inFlight(state);
    assert.deepEqual(idsOf(units).sort(), ["1", "2", "20"].sort().slice(0, 3));
    const truncate = units.find(({ entries }) => entries[0]?.id === "20");
    assert.ok(truncate !== undefined);
    state.settle(truncate, OK, 0);
    assert.deepEqual(idsOf(inFlight(state)), ["21"]);
  });

  test("what is refused once more is stored by its burial: it is not taken away a second time", () => {
    const state = relay();
    state.restore(again(1, "[1]", AGAIN));
    const [unit] = inFlight(state);
    assert.ok(unit !== undefined);
    assert.equal(state.settle(unit, NO, 0).kind, "bury");
    state.buried(unit, 0);
    assert.deepEqual([state.takeUnparked(), state.parked, state.resentLeft], [[], 0, 0]);
  });

  test("one that fails makes the callback failing, one that waits for its turn does not", () => {
    const state = relay();
    for (let id = 1; id <= 3; id += 1) state.restore(again(id, "[1]", REPLAY));
    assert.equal(state.failing, false);
    const [unit] = inFlight(state);
    assert.ok(unit !== undefined);
    state.settle(unit, RETRY, 0);
    assert.equal(state.failing, true);
    assert.equal(state.dueMs(0), 500);
  });

  test("dead letters of another callback and events of the callback's own are told apart by more than their id", () => {
    const state = relay();
    const letter = { callback: "orders", error: "422: no", attempts: 1 };
    state.restore(again(7, "[1]", { replay: null, letter }));
    state.restore(again(7, "[1]", AGAIN));
    const units = inFlight(state);
    assert.deepEqual(idsOf(units), ["7 orders", "7"]);
    for (const unit of units) state.settle(unit, OK, 0);
    assert.deepEqual(state.takeUnparked(), ["7 orders", "7"]);
  });

  test("G5 none of it counts for what is passed beyond the position", () => {
    const state = relay({ maxInFlight: 1 });
    read(state, live(20, "[1]"), live(21, "[2]"));
    state.restore(again(1, "[9]", REPLAY));
    const [first] = inFlight(state);
    assert.ok(first !== undefined);
    assert.deepEqual(idsOf([first]), ["1"]);
    state.settle(first, OK, 0);
    assert.deepEqual([state.position().aheadId, state.passedBeyond()], [null, []]);
  });
});
