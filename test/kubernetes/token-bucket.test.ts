import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenBucket } from "../../src/kubernetes/token-bucket.ts";

test("a burst at once, then one after another at the rate, and the burst again after rest", () => {
  let nowMs = 0;
  const bucket = new TokenBucket(20, 40, () => nowMs);
  for (let taken = 0; taken < 40; taken += 1) assert.equal(bucket.take(), 0);
  assert.deepEqual([bucket.take(), bucket.take(), bucket.take()], [50, 100, 150]);
  nowMs = 200;
  assert.equal(bucket.take(), 0);
  nowMs = 60_000;
  for (let taken = 0; taken < 40; taken += 1) assert.equal(bucket.take(), 0);
  assert.equal(bucket.take(), 50);
});

test("what is only taken when it is there leaves no debt", () => {
  let nowMs = 0;
  const bucket = new TokenBucket(1, 2, () => nowMs);
  assert.deepEqual(
    [bucket.tryTake(), bucket.tryTake(), bucket.tryTake(), bucket.tryTake()],
    [true, true, false, false],
  );
  nowMs = 1000;
  assert.deepEqual([bucket.tryTake(), bucket.tryTake()], [true, false]);
});
