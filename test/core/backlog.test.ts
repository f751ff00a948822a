import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Backlog,
  describeBacklog,
  isRelieved,
  reachedLimit,
  segmentLimits,
} from "../../src/core/capture/backlog.ts";
import { captureSpec } from "../support/capture-spec.ts";

const GIB = 2 ** 30;
const backlog = (bytes: number, ...ages: number[]): Backlog => ({
  bytes,
  callbacks: ages.map((oldestAgeSeconds, index) => ({ name: `c${index}`, oldestAgeSeconds })),
});

describe("limits of the outbox", () => {
  test("none is set unless the user sets one", () => {
    const limits = captureSpec().backlog;
    assert.deepEqual(limits, { onLimit: "Alert" });
    assert.equal(reachedLimit(limits, backlog(1e15, 1e9)), null);
  });

  test("are reached beyond, and relieved at half", () => {
    const limits = { maxBytes: GIB, maxAgeSeconds: 600, onLimit: "Pause" as const };
    assert.equal(reachedLimit(limits, backlog(GIB, 600, 0)), null);
    assert.equal(reachedLimit(limits, backlog(GIB + 1, 0)), "Bytes");
    assert.equal(reachedLimit(limits, backlog(1, 0, 600.5)), "Age");
    assert.equal(isRelieved(limits, backlog(GIB / 2, 300)), true);
    assert.equal(isRelieved(limits, backlog(GIB / 2 + 1, 0)), false);
    assert.equal(isRelieved(limits, backlog(0, 301)), false);
  });

  test("make segments small enough to be dropped one by one; Alert changes nothing", () => {
    const limits = { maxBytes: GIB, maxAgeSeconds: 3600 };
    const of = (onLimit: "Alert" | "DropOldest", retentionSeconds: number) =>
      segmentLimits(captureSpec({ retentionSeconds, backlog: { ...limits, onLimit } }));
    assert.deepEqual(of("Alert", 86_400), { seconds: 28_800, bytes: Number.POSITIVE_INFINITY });
    assert.deepEqual(of("DropOldest", 86_400), { seconds: 1200, bytes: GIB / 4 });
    assert.deepEqual(of("DropOldest", 0), { seconds: 60, bytes: GIB / 4 });
  });

  test("name the callback that holds the outbox back, or the retention", () => {
    const limits = { maxBytes: 16 * 2 ** 20, maxAgeSeconds: 300, onLimit: "Alert" as const };
    assert.equal(
      describeBacklog("Age", limits, backlog(1, 20, 301.4)),
      "Events wait for longer than maxAgeSeconds (300). Callback c1 has not got the oldest events: let it take its events, or remove it from spec.callbacks.",
    );
    assert.equal(
      describeBacklog("Bytes", limits, backlog(3 * GIB, 0)),
      "The outbox takes more than maxBytes (16.0 MiB). Every callback has its events; retentionSeconds keeps them.",
    );
  });
});
