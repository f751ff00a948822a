/**
 * Workers that share lanes, as a model: real states of relays and the real rules for crossings and positions, over a
 * log and a table of leases that do what the database does. Whatever happens in whatever order, everything comes, in
 * order, and nobody waits for ever.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { isMet, undelivered } from "../../src/core/delivery/crossing.ts";
import {
  type Crossing,
  type Entry,
  NOTHING,
  type ParkedEvent,
  type ReadEvent,
  type Unit,
} from "../../src/core/delivery/entry.ts";
import { hasLane, joinLanes } from "../../src/core/delivery/lanes.ts";
import { comparePositions, leastPosition, type Position } from "../../src/core/delivery/position.ts";
import { RelayState } from "../../src/core/delivery/relay-state.ts";
import type { ChangeEvent } from "../../src/core/event.ts";

const KEYS = 8;
const LANES = 4;
const ALL = 2 ** LANES - 1;
const WORKERS = [0, 1, 2];
const OK = { kind: "acknowledged", code: "200" } as const;
const RETRY = { kind: "retryable", code: "500", message: "later" } as const;
/** As long as a failing key holds the position. */
const PATIENCE_MS = 1000;
const RUNS = 1000;

interface Part {
  lanes: number;
  holder: number | null;
  position: Position;
  passed: readonly string[];
  standsBefore: string | null;
}

interface ModelRelay {
  readonly state: RelayState;
  readonly parts: readonly Part[];
  readonly leases: readonly { readonly lanes: number; readonly position: Position }[];
  ahead: readonly Part[];
  seen: string;
  readonly inFlight: Unit[];
}

/** How often what happens, in proportion. */
const WEIGHTS = {
  write: 6,
  read: 6,
  send: 12,
  settle: 8,
  refuse: 2,
  park: 4,
  look: 4,
  store: 4,
  take: 3,
  give: 1,
  merge: 1,
  leave: 1,
  kill: 1,
} as const;
type What = keyof typeof WEIGHTS;
interface Step {
  readonly what: What;
  readonly worker: number;
  readonly number: number;
}

const laneOf = (key: number) => key % LANES;

class Model {
  readonly log: ChangeEvent[] = [];
  readonly delivered: string[] = [];
  #parts: Part[] = [
    {
      lanes: ALL,
      holder: null,
      position: { seen: "1:1:", ahead: null, aheadId: null },
      passed: [],
      standsBefore: null,
    },
  ];
  readonly #agreed = new Map<string, string>();
  /** Keys whose events the callback does not take now. */
  readonly #refused = new Set<number>();
  /** What lies parked, by id. */
  readonly #parked = new Map<string, ParkedEvent>();
  readonly #relays = new Map<number, ModelRelay>();
  #now = 0;

  step({ what, worker, number }: Step): void {
    this.#now += 1;
    if (what === "write") this.#write(number);
    else if (what === "take") this.#take(worker, number);
    else if (what === "kill") this.#kill(worker);
    else if (what === "refuse") this.#refuse(number % KEYS);
    else {
      const relay = this.#relays.get(worker);
      if (relay !== undefined) this.#act(worker, relay, what, number);
    }
  }

  /** Goes on, without changes of lanes, until nothing is left. @throws when that does not come */
  finish(): void {
    this.#refused.clear();
    for (const part of this.#parts) part.holder ??= 0;
    for (const worker of WORKERS) this.#restart(worker);
    for (let round = 0; this.delivered.length < 10_000; round += 1) {
      const left = this.log.filter(({ id }) => !this.delivered.includes(id));
      const behind = this.#parts.filter(({ position }) => position.seen !== this.#end());
      if (left.length === 0 && behind.length === 0 && this.#parked.size === 0) return;
      assert.ok(round < 3 * this.log.length + 50, `never come: ${left.map(({ id }) => id)}`);
      for (const worker of WORKERS)
        for (const what of ["read", "send", "settle", "look", "store"] as const)
          this.step({ what, worker, number: 0 });
    }
  }

  #act(worker: number, relay: ModelRelay, what: What, number: number): void {
    const { state, inFlight } = relay;
    if (what === "read") this.#read(relay);
    else if (what === "send") this.#send(relay);
    else if (what === "settle") {
      const [unit] = inFlight.splice(number % Math.max(1, inFlight.length), 1);
      if (unit !== undefined) this.#settle(relay, unit);
    } else if (what === "look") {
      const others = this.#parts.filter((part) => !relay.parts.includes(part));
      for (const entry of [...state.crossings]) if (isMet(entry, others)) state.crossed(entry, this.#now);
    } else if (what === "store") this.#store(relay);
    else if (what === "park") this.#park(relay);
    else if (what === "give") this.#give(worker, relay, number);
    else if (what === "merge") this.#merge(worker, relay);
    else if (what === "leave") {
      this.#drain(worker);
      for (const part of relay.parts) part.holder = null;
    }
  }

  #write(number: number): void {
    const id = String(this.log.length + 1);
    const [key, other] = [number % KEYS, Math.floor(number / KEYS) % KEYS];
    const kind = Math.floor(number / (KEYS * KEYS)) % 8;
    const event = { ...NOTHING, id, transactionId: String(this.log.length + 1), schema: "s", table: "t" };
    if (kind === 0) this.log.push({ ...event, operation: "Truncate" });
    else if (kind < 4 && key !== other)
      this.log.push({ ...event, operation: "Update", key: String(key), oldKey: String(other) });
    else this.log.push({ ...event, operation: "Update", key: String(key) });
  }

  #end(): string {
    return `${this.log.length + 1}:${this.log.length + 1}:`;
  }

  #read(relay: ModelRelay): void {
    if (relay.seen === this.#end() && !this.#agreed.has(relay.seen)) return;
    const ahead = this.#agreed.get(relay.seen) ?? this.#end();
    this.#agreed.set(relay.seen, ahead);
    const [from, to] = [relay.seen, ahead].map((text) => Number(text.split(":")[0]));
    const lanes = joinLanes(relay.leases);
    const rows = this.log
      .slice((from as number) - 1, (to as number) - 1)
      .flatMap((event) => rowOf(event, lanes));
    relay.state.add(ahead, undelivered(rows, relay.leases), true, this.#now, () => true);
    relay.seen = ahead;
  }

  #send({ state, inFlight }: ModelRelay): void {
    const unit = state.next(this.#now);
    if (unit === null) return;
    inFlight.push(unit);
  }

  #settle({ state }: ModelRelay, unit: Unit): void {
    const taken = this.#deliver(state.payload(unit));
    state.settle(unit, taken ? OK : RETRY, this.#now);
  }

  /** @returns whether the callback took it */
  #deliver(entries: readonly Entry[]): boolean {
    if (entries.some(({ event }) => event.key !== null && this.#refused.has(Number(event.key)))) return false;
    this.delivered.push(...entries.map(({ id }) => id));
    return true;
  }

  #refuse(key: number): void {
    if (!this.#refused.delete(key)) this.#refused.add(key);
  }

  #park({ state }: ModelRelay): void {
    this.#now += PATIENCE_MS;
    const entries = state.toPark(this.#now);
    for (const entry of entries)
      this.#parked.set(entry.id, { event: entry.event, bytes: 1, attempts: state.attemptsOf(entry) });
    if (entries.length > 0) state.park(entries, [], this.#now);
  }

  #store(relay: ModelRelay): void {
    for (const id of relay.state.takeUnparked()) this.#parked.delete(id);
    const position = relay.state.position();
    const reached = relay.ahead.filter((part) => comparePositions(position, part.position) >= 0);
    relay.ahead = relay.ahead.filter((part) => !reached.includes(part));
    for (const part of relay.parts.filter((one) => !relay.ahead.includes(one))) {
      assert.ok(comparePositions(position, part.position) >= 0, "a position never goes back");
      [part.position, part.passed, part.standsBefore] = [position, [], relay.state.standsBefore()];
    }
  }

  #drain(worker: number): void {
    const relay = this.#relays.get(worker);
    if (relay === undefined) return;
    for (const unit of relay.inFlight) this.#settle(relay, unit);
    this.#store(relay);
    const passed = relay.state.passedBeyond();
    if (passed.length > 0) for (const part of relay.parts) part.passed = passed;
    this.#relays.delete(worker);
  }

  #restart(worker: number): void {
    this.#drain(worker);
    const parts = this.#parts.filter(({ holder }) => holder === worker);
    if (parts.length === 0) return;
    const leases = parts.map(({ lanes, position }) => ({ lanes, position }));
    const start = leastPosition(parts.map(({ position }) => position)) as Position;
    assert.equal(start.ahead === null || this.#agreed.get(start.seen) === start.ahead, true);
    const options = {
      ordering: "Key",
      maxEvents: 1,
      maxBytes: 1000,
      maxWaitMs: 0,
      maxInFlight: 3,
      attempts: 1000,
      maxParked: 100,
      backoffMs: () => 5,
    } as const;
    const passed = parts.flatMap((part) => part.passed);
    const lanes = joinLanes(leases);
    const parked = [...this.#parked.values()]
      .filter(({ event }) => hasLane(lanes, laneOf(Number(event.key))))
      .sort((a, b) => Number(a.event.id) - Number(b.event.id));
    const state = new RelayState(options, start, parked, passed);
    const ahead = parts.filter(({ position }) => comparePositions(position, start) > 0);
    // In the middle of a window a relay reads its rest: here, the whole, of which it passes over what is done.
    const relay = { state, parts, leases, ahead, seen: start.seen, inFlight: [] };
    this.#relays.set(worker, relay);
    if (start.ahead !== null) this.#readRest(relay, start);
  }

  #readRest(relay: ModelRelay, { seen, ahead, aheadId }: Position): void {
    const [from, to] = [seen, ahead as string].map((text) => Number(text.split(":")[0]));
    const rows = this.log
      .slice((from as number) - 1, (to as number) - 1)
      .filter(({ id }) => Number(id) > Number(aheadId))
      .flatMap((event) => rowOf(event, joinLanes(relay.leases)));
    relay.state.add(ahead as string, undelivered(rows, relay.leases), true, this.#now, () => true);
    relay.seen = ahead as string;
  }

  /** Takes a part that nobody holds, or half of it. */
  #take(worker: number, number: number): void {
    const free = this.#parts.filter(({ holder }) => holder === null);
    const part = free[number % Math.max(1, free.length)];
    if (part === undefined) return;
    if (number % 2 === 0) this.#cut(part, part.lanes & 0b0101);
    part.holder = worker;
    this.#restart(worker);
  }

  #give(worker: number, relay: ModelRelay, number: number): void {
    const part = relay.parts[number % relay.parts.length] as Part;
    this.#drain(worker);
    const rest = number % 2 === 0 ? 0 : part.lanes & 0b0011;
    if (rest === 0 || rest === part.lanes) part.holder = null;
    else this.#cut(part, part.lanes & ~rest);
    this.#restart(worker);
  }

  /** Lanes of a part become another one that nobody holds. */
  #cut(part: Part, lanes: number): void {
    if (lanes === 0 || lanes === part.lanes) return;
    part.lanes &= ~lanes;
    this.#parts.push({ ...part, lanes, holder: null });
  }

  #merge(worker: number, relay: ModelRelay): void {
    if (relay.ahead.length > 0 || relay.parts.length < 2) return;
    this.#drain(worker);
    const [one, ...rest] = relay.parts as [Part, ...Part[]];
    assert.ok(rest.every(({ position }) => comparePositions(position, one.position) === 0));
    [one.lanes, one.standsBefore] = [joinLanes(relay.parts), null];
    this.#parts = this.#parts.filter((part) => !rest.includes(part));
    this.#restart(worker);
  }

  #kill(worker: number): void {
    const relay = this.#relays.get(worker);
    if (relay === undefined) return;
    for (const unit of relay.inFlight) this.#deliver(relay.state.payload(unit)); // its answer is not seen
    this.#relays.delete(worker);
    for (const part of this.#parts) if (part.holder === worker) part.holder = null;
  }
}

/** As `concerns` and `crossingOf` have it. */
function rowOf(event: ChangeEvent, lanes: number): ReadEvent[] {
  const truncate = event.operation === "Truncate";
  const lane = truncate ? 0 : laneOf(Number(event.key));
  const oldLane = event.oldKey === null ? null : laneOf(Number(event.oldKey));
  const ours = hasLane(lanes, lane);
  if (!truncate && !ours && (oldLane === null || !hasLane(lanes, oldLane))) return [];
  const alone = !truncate && (oldLane === null || hasLane(lanes, oldLane) === ours);
  const crossing: Crossing = ours ? "ours" : "theirs";
  return [{ event, bytes: 1, deferred: false, lane, oldLane, ...(alone ? {} : { crossing }) }];
}

/** By first delivery: of each key in the order of the log, and a Truncate between what is before and after it. */
function assertOrder(log: readonly ChangeEvent[], delivered: readonly string[]): void {
  const place = new Map<string, number>();
  for (const [index, id] of delivered.entries()) if (!place.has(id)) place.set(id, index);
  const at = ({ id }: ChangeEvent) => place.get(id) as number;
  const keysOf = ({ key, oldKey }: ChangeEvent) => [key, oldKey].filter((one) => one !== null);
  for (const [index, event] of log.entries())
    for (const earlier of log.slice(0, index)) {
      const keys = keysOf(earlier);
      const tied = keys.length === 0 || event.key === null || keysOf(event).some((key) => keys.includes(key));
      if (tied) assert.ok(at(earlier) < at(event), `${event.id} came before ${earlier.id}`);
    }
}

/** @param but what never happens */
const steps = (but?: What) =>
  fc.array(
    fc.record({
      what: fc.oneof(
        ...(Object.entries(WEIGHTS) as [What, number][])
          .filter(([what]) => what !== but)
          .map(([what, weight]) => ({ weight, arbitrary: fc.constant(what) })),
      ),
      worker: fc.constantFrom(...WORKERS),
      number: fc.nat(1023),
    }),
    { minLength: 100, maxLength: 600, size: "max" },
  );

/** Does these steps and goes on until all have come. @returns what came, in order */
function deliveredBy(these: readonly Step[]): readonly string[] {
  const model = new Model();
  for (const one of these) model.step(one);
  model.finish();
  assertOrder(model.log, model.delivered);
  return model.delivered;
}

describe("workers that share lanes", () => {
  test("G1 G2 G5 whatever is taken, given away and joined while events cross lanes: all come once, in order, and nobody waits for ever", () => {
    fc.assert(
      fc.property(steps("kill"), (these) => {
        const delivered = deliveredBy(these);
        const twice = delivered.filter((id, at) => delivered.indexOf(id) !== at);
        assert.deepEqual(twice, []);
      }),
      { numRuns: RUNS },
    );
  });

  test("G1 G2 the same while workers are killed, but that events may come twice", () => {
    fc.assert(
      fc.property(steps(), (these) => void deliveredBy(these)),
      { numRuns: RUNS },
    );
  });
});
