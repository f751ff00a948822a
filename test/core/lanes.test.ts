import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ALL_LANES, countLanes, LANES, type LanePart, planLanes } from "../../src/core/delivery/lanes.ts";

const whole = (holder: string | null): LanePart => ({ part: 0, lanes: ALL_LANES, holder });

describe("lanes", () => {
  test("one worker takes all lanes together", () => {
    assert.deepEqual(planLanes("c", [whole(null)], ["a"], "a", LANES), {
      take: [{ part: 0, lanes: ALL_LANES }],
      give: [],
    });
  });

  test("who has all gives half away when a second worker comes, and the second one takes that", () => {
    const [given] = planLanes("c", [whole("a")], ["a", "b"], "a", LANES).give;
    assert.deepEqual([given?.part, countLanes(given?.lanes ?? 0)], [0, 16]);
    const lanes = given?.lanes ?? 0;
    const parts = [
      { part: 1, lanes: (ALL_LANES & ~lanes) >>> 0, holder: "a" },
      { part: 2, lanes, holder: null },
    ];
    assert.deepEqual(planLanes("c", parts, ["a", "b"], "b", LANES).take, [{ part: 2, lanes }]);
    assert.deepEqual(planLanes("c", parts, ["a", "b"], "a", LANES), { take: [], give: [] });
  });

  test("what is one in order is not cut; callbacks of that kind spread over the workers", () => {
    const names = Array.from({ length: 20 }, (_, index) => `callback-${index}`);
    const takers = names.map((name) =>
      ["a", "b"].filter((worker) => planLanes(name, [whole(null)], ["a", "b"], worker, 1).take.length > 0),
    );
    for (const taker of takers) assert.equal(taker.length, 1);
    assert.equal(new Set(takers.flat()).size, 2);
  });

  test("G5 whatever workers come and go, lanes are held by one at most, and in the end evenly by all", () => {
    const changes = fc.array(fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e"), { minLength: 1 }), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(changes, (history) => {
        let parts: LanePart[] = [whole(null)];
        for (const workers of history as string[][]) {
          parts = parts.map((one) => (workers.includes(one.holder ?? "") ? one : { ...one, holder: null }));
          for (let round = 0; round < 4; round += 1)
            for (const worker of workers) parts = act(parts, workers, worker);
          assert.equal(
            parts.reduce((mask, { lanes }) => (mask | lanes) >>> 0, 0),
            ALL_LANES,
          );
          assert.equal(
            parts.reduce((sum, { lanes }) => sum + countLanes(lanes), 0),
            LANES,
          );
          for (const worker of workers) {
            const held = parts
              .filter(({ holder }) => holder === worker)
              .reduce((sum, { lanes }) => sum + countLanes(lanes), 0);
            assert.ok(Math.abs(held - LANES / workers.length) < 1, `${held} of ${workers.length}`);
          }
        }
      }),
    );
  });
});

/** What the database does with a plan. */
function act(parts: readonly LanePart[], workers: readonly string[], worker: string): LanePart[] {
  const { take, give } = planLanes("c", parts, workers, worker, LANES);
  let changed = [...parts];
  for (const { part, lanes, holder } of [
    ...take.map((one) => ({ ...one, holder: worker as string | null })),
    ...give.map((one) => ({ ...one, holder: null })),
  ]) {
    const from = changed.find((one) => one.part === part) as LanePart;
    assert.equal((from.lanes & lanes) >>> 0, lanes, "lanes of the part");
    const rest = (from.lanes & ~lanes) >>> 0;
    const next = Math.max(...changed.map((one) => one.part)) + 1;
    changed = changed.filter((one) => one.part !== part);
    changed.push({ part: rest === 0 ? part : next, lanes, holder });
    if (rest !== 0) changed.push({ ...from, lanes: rest });
  }
  return changed;
}
