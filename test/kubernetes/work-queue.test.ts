import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type QueueClock,
  type QueueMeasure,
  WorkQueue,
  type WorkQueueOptions,
} from "../../src/kubernetes/work-queue.ts";

/** Time that passes only when a test says so. */
class FakeClock implements QueueClock {
  chance = 0;
  #nowMs = 0;
  #timers: { atMs: number; call: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(milliseconds: number, call: () => void): () => void {
    const timer = { atMs: this.#nowMs + milliseconds, call };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  random(): number {
    return this.chance;
  }

  /** Milliseconds until each timer. */
  get waits(): number[] {
    return this.#timers.map(({ atMs }) => atMs - this.#nowMs).sort((a, b) => a - b);
  }

  async pass(milliseconds: number): Promise<void> {
    this.#nowMs += milliseconds;
    const due = this.#timers.filter(({ atMs }) => atMs <= this.#nowMs);
    this.#timers = this.#timers.filter(({ atMs }) => atMs > this.#nowMs);
    for (const { call } of due) call();
    await settled();
  }
}

/** Work that a test ends when it likes. */
interface Work {
  readonly key: string;
  succeed(againMs?: number): Promise<void>;
  fail(): Promise<void>;
}

function scene(options: Partial<WorkQueueOptions> = {}) {
  const clock = new FakeClock();
  const started: Work[] = [];
  const measures: QueueMeasure[] = [];
  const queue = new WorkQueue({
    concurrency: 1,
    backoffMs: [1000, 60_000],
    onFailure: () => null,
    onMeasure: (measure) => measures.push(measure),
    clock,
    handle: (key) =>
      new Promise<number | null>((resolve, reject) => {
        const succeed = (againMs?: number) => {
          resolve(againMs ?? null);
          return settled();
        };
        const fail = () => {
          reject(new Error("fails"));
          return settled();
        };
        started.push({ key, succeed, fail });
      }),
    ...options,
  });
  const keys = () => started.map(({ key }) => key);
  const work = (index: number) => started[index] as Work;
  return { clock, queue, started, keys, work, measures };
}

/** Promises that can go on have gone on. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("a key", () => {
  test("waits once, however often it is added", async () => {
    const { queue, keys, work } = scene();
    for (const key of ["a", "b", "b", "c", "b"]) queue.add(key);
    assert.equal(queue.depth, 2);
    await work(0).succeed();
    await work(1).succeed();
    await work(2).succeed();
    assert.deepEqual(keys(), ["a", "b", "c"]);
  });

  test("is worked on by one worker at a time, and again when it was added meanwhile", async () => {
    const { queue, keys, work } = scene({ concurrency: 3 });
    queue.add("a");
    queue.add("a");
    queue.add("a");
    assert.deepEqual(keys(), ["a"]);
    await work(0).succeed();
    assert.deepEqual(keys(), ["a", "a"]);
    await work(1).succeed();
    assert.deepEqual(keys(), ["a", "a"]);
  });

  test("that a user changed goes before what waits already", async () => {
    const { queue, keys, work } = scene();
    for (const key of ["first", "x", "y", "z"]) queue.add(key);
    queue.add("y", true);
    queue.add("new", true);
    queue.add("new");
    for (let index = 0; index < 5; index += 1) await work(index).succeed();
    assert.deepEqual(keys(), ["first", "y", "new", "x", "z"]);
  });

  test("F49 that is well, or that a user changed, does not wait for those that hang", async () => {
    const { queue, keys, work } = scene({ concurrency: 3 });
    queue.add("well");
    await work(0).succeed();
    for (const key of ["a", "b", "c", "d"]) queue.add(key);
    assert.deepEqual(keys(), ["well", "a", "b"], "one worker is kept free");
    queue.add("well");
    assert.equal(keys().at(-1), "well");
    queue.add("c", true);
    assert.equal(keys().length, 4);
    await work(3).succeed();
    assert.equal(keys().at(-1), "c");
    await work(4).fail();
    queue.add("c");
    assert.equal(keys().length, 5, "failed: it is one of the others again");
    await work(1).fail();
    assert.deepEqual(keys().slice(5), ["d"]);
    assert.equal(queue.depth, 1);
  });

  test("that a user changed while it was worked on goes first again", async () => {
    const { queue, keys, work } = scene();
    for (const key of ["a", "b"]) queue.add(key);
    queue.add("a", true);
    await work(0).succeed();
    assert.deepEqual(keys(), ["a", "a"]);
  });
});

test("no more keys are worked on at once than allowed", async () => {
  const { queue, keys, work } = scene({ concurrency: 2 });
  for (const key of ["a", "b", "c", "d"]) queue.add(key, true);
  assert.deepEqual(keys(), ["a", "b"]);
  await work(1).succeed();
  assert.deepEqual(keys(), ["a", "b", "c"]);
});

describe("after a failure", () => {
  test("waits double each time up to a limit; half of a wait is chance", async () => {
    const { queue, clock, started, work } = scene();
    queue.add("a");
    const waits: number[] = [];
    for (let failure = 0; failure < 9; failure += 1) {
      clock.chance = failure % 2 === 0 ? 0 : 0.999;
      await work(failure).fail();
      waits.push(Math.round(clock.waits[0] ?? 0));
      await clock.pass(clock.waits[0] ?? 0);
    }
    assert.deepEqual(waits, [500, 1999, 2000, 7996, 8000, 31_984, 30_000, 59_970, 30_000]);
    assert.equal(started.length, 10);
  });

  test("a success forgets the failures", async () => {
    const { queue, clock, work } = scene();
    queue.add("a");
    await work(0).fail();
    await clock.pass(500);
    await work(1).fail();
    await clock.pass(1000);
    await work(2).succeed();
    queue.add("a");
    await work(3).fail();
    assert.deepEqual(clock.waits, [500]);
  });

  test("it can ask for a longer wait, not for a shorter one", async () => {
    const asked: Record<string, number> = { long: 300_000, short: 1 };
    const { queue, clock, work } = scene({ onFailure: (key) => asked[key] ?? null, concurrency: 2 });
    queue.add("long");
    queue.add("short");
    await work(0).fail();
    await work(1).fail();
    assert.deepEqual(clock.waits, [500, 300_000]);
  });

  test("a change does not wait", async () => {
    const { queue, clock, keys, work } = scene();
    queue.add("a");
    await work(0).fail();
    queue.add("a");
    assert.deepEqual(keys(), ["a", "a"]);
    assert.deepEqual(clock.waits, []);
  });

  test("a key that is forgotten does not come back", async () => {
    const { queue, clock, work } = scene();
    queue.add("a");
    await work(0).fail();
    queue.forget("a");
    assert.deepEqual(clock.waits, []);
    queue.add("a");
    await work(1).fail();
    assert.deepEqual(clock.waits, [500], "its failures are forgotten too");
  });
});

describe("later", () => {
  test("a key comes back when its handler asks for it", async () => {
    const { queue, clock, keys, work } = scene();
    queue.add("a");
    await work(0).succeed(60_000);
    await clock.pass(59_999);
    assert.deepEqual(keys(), ["a"]);
    await clock.pass(1);
    assert.deepEqual(keys(), ["a", "a"]);
  });

  test("the earliest of several times counts, and a change before it takes its place", async () => {
    const { queue, clock, keys } = scene();
    queue.addAfter("a", 2000);
    queue.addAfter("a", 1000);
    queue.addAfter("a", 3000);
    assert.deepEqual(clock.waits, [1000]);
    queue.add("a");
    assert.deepEqual(clock.waits, []);
    assert.deepEqual(keys(), ["a"]);
  });
});

test("stop takes up nothing new and waits for what is under way", async () => {
  const { queue, clock, keys, work } = scene({ concurrency: 2 });
  for (const key of ["a", "b"]) queue.add(key, true);
  queue.add("c");
  queue.addAfter("d", 10);
  let stopped = 0;
  const stopping = [queue.stop(), queue.stop()].map((stop) =>
    stop.then(() => {
      stopped += 1;
    }),
  );
  queue.add("e");
  queue.add("a");
  await work(0).succeed(10);
  assert.equal(stopped, 0);
  await work(1).fail();
  await Promise.all(stopping);
  await clock.pass(100_000);
  assert.deepEqual(keys(), ["a", "b"]);
  assert.equal(queue.depth, 0);
  await queue.stop();
});

test("measures say how many wait, for how long, and how long the work took", async () => {
  const { queue, clock, measures, work } = scene();
  queue.add("a");
  queue.add("b");
  await clock.pass(2000);
  await work(0).fail();
  assert.deepEqual(measures, [
    { depth: 1, added: true },
    { depth: 0, queuedSeconds: 0 },
    { depth: 1, added: true },
    { depth: 1, retried: true },
    { depth: 1, workedSeconds: 2 },
    { depth: 0, queuedSeconds: 2 },
  ]);
});
