import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backoffMs } from "../../src/core/delivery/backoff.ts";

const limits = fc
  .record({ baseMs: fc.integer({ min: 1, max: 3_600_000 }), factor: fc.integer({ min: 1, max: 1000 }) })
  .map(({ baseMs, factor }) => ({ baseMs, maxMs: baseMs * factor }));
const attempt = fc.integer({ min: 1, max: 5000 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("a wait is from 0 up to a bound that never falls and never passes the maximum", () => {
  fc.assert(
    fc.property(limits, attempt, random, (limits, attempt, random) => {
      const waitMs = backoffMs(attempt, limits, random);
      assert.ok(waitMs >= 0 && waitMs <= limits.maxMs);
      assert.ok(waitMs <= backoffMs(attempt + 1, limits, random));
    }),
  );
});

test("the bound of the first wait is the base, and doubles until the maximum", () => {
  const bounds = [1, 2, 3, 4, 5, 6].map((attempt) => backoffMs(attempt, { baseMs: 1000, maxMs: 10_000 }, 1));
  assert.deepEqual(bounds, [1000, 2000, 4000, 8000, 10_000, 10_000]);
});

test("jitter is full: waits fill the range from 0 to the bound evenly", () => {
  const waits = [0, 0.25, 0.5, 0.75].map((random) => backoffMs(3, { baseMs: 100, maxMs: 10_000 }, random));
  assert.deepEqual(waits, [0, 100, 200, 300]);
});
