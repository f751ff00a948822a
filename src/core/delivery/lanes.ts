/**
 * The key space of a callback is cut into lanes, which the workers that are alive share out: each takes its
 * quota of what nobody holds, and gives away what it has above its quota to those that have less. Sets of
 * lanes are bit masks: bit n is lane n (lane_of in sql/functions_lanes.sql).
 */
import type { Ordering } from "./key-order.ts";

export const LANES = 32;
export const ALL_LANES = 0xffff_ffff;

/** Some lanes that are leased together. */
export interface LanePart {
  /** 0: the callback as a whole. */
  readonly part: number;
  readonly lanes: number;
  /** Id of a worker that is alive; null: nobody holds them. */
  readonly holder: string | null;
}

export interface LanePlan {
  /** Lanes to take now, of parts that nobody holds. */
  readonly take: readonly { readonly part: number; readonly lanes: number }[];
  /** Lanes of its own parts that this worker gives away. */
  readonly give: readonly { readonly part: number; readonly lanes: number }[];
}

/** How many lanes there are to share out: with one order for everything, only all of them together. */
export function lanesToShare(ordering: Ordering): number {
  return ordering === "Source" ? 1 : LANES;
}

/**
 * What a worker does about the lanes of one callback. All workers decide alike from what the database says.
 * @param workers ids of those that are alive and relay this callback
 * @param shares into how many pieces the lanes can be cut: LANES or 1
 */
export function planLanes(
  callback: string,
  parts: readonly LanePart[],
  workers: readonly string[],
  me: string,
  shares: number,
): LanePlan {
  const quotas = quotasOf(callback, workers.includes(me) ? workers : [...workers, me], shares);
  const held = (worker: string | null) =>
    parts
      .filter(({ holder }) => holder === worker)
      .reduce((sum, { lanes }) => sum + sizeOf(lanes, shares), 0);
  const mine = parts.filter(({ holder }) => holder === me);
  const free = parts.filter(({ holder }) => holder === null);
  const lack = (quotas.get(me) ?? 0) - held(me);
  if (lack >= 0) return { take: choose(free, lack, shares), give: [] };
  const lackOfOthers = [...quotas].reduce(
    (sum, [worker, quota]) => sum + Math.max(0, worker === me ? 0 : quota - held(worker)),
    0,
  );
  return { take: [], give: choose(mine, Math.min(-lack, lackOfOthers - held(null)), shares) };
}

/** The lanes of several parts in one mask. */
export function joinLanes(parts: readonly { readonly lanes: number }[]): number {
  return parts.reduce((mask, { lanes }) => (mask | lanes) >>> 0, 0);
}

/** Lanes of a mask. */
export function countLanes(mask: number): number {
  let count = 0;
  for (let rest = mask >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count += 1;
  return count;
}

export function hasLane(mask: number, lane: number): boolean {
  return ((mask >>> lane) & 1) === 1;
}

/** Even shares; who gets one more depends on the callback, so that many callbacks of one lane spread. */
function quotasOf(callback: string, workers: readonly string[], shares: number): Map<string, number> {
  const sorted = [...workers].sort();
  const turn = [...callback].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0, 0);
  return new Map(
    sorted.map((worker, index) => {
      const place = (index + turn) % sorted.length;
      return [worker, Math.floor(shares / sorted.length) + (place < shares % sorted.length ? 1 : 0)];
    }),
  );
}

/** So many lanes of these parts, whole parts before pieces of one. */
function choose(
  parts: readonly LanePart[],
  wanted: number,
  shares: number,
): { part: number; lanes: number }[] {
  const chosen: { part: number; lanes: number }[] = [];
  let left = wanted;
  const bySize = [...parts].sort(
    (a, b) => sizeOf(b.lanes, shares) - sizeOf(a.lanes, shares) || a.part - b.part,
  );
  for (const { part, lanes } of bySize) {
    const size = sizeOf(lanes, shares);
    if (size > left) continue;
    chosen.push({ part, lanes });
    left -= size;
  }
  const rest = bySize.find(({ part }) => !chosen.some((one) => one.part === part));
  if (left > 0 && rest !== undefined) chosen.push({ part: rest.part, lanes: lowest(rest.lanes, left) });
  return chosen;
}

function sizeOf(lanes: number, shares: number): number {
  return shares === 1 ? Math.min(1, countLanes(lanes)) : countLanes(lanes);
}

function lowest(mask: number, count: number): number {
  let [rest, taken] = [mask >>> 0, 0];
  for (let index = 0; index < count && rest !== 0; index += 1) {
    const bit = (rest & -rest) >>> 0;
    taken = (taken | bit) >>> 0;
    rest = (rest & ~bit) >>> 0;
  }
  return taken;
}
