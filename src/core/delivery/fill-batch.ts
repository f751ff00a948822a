import type { Entry } from "./entry.ts";
import type { ReadyQueue } from "./ready-queue.ts";

/** Fills a batch: followers of what is in it come along behind, then whatever else is ready. */
export function fillBatch(
  entries: Entry[],
  ready: ReadyQueue<Entry>,
  maxEvents: number,
  maxBytes: number,
): void {
  let room = maxBytes - (entries[0]?.bytes ?? 0);
  let sorted = true;
  const take = (entry: Entry): boolean => {
    if (entries.length >= maxEvents || entry.bytes > room || entry.parked) return false;
    room -= entry.bytes;
    if (entry.sequence < (entries.at(-1)?.sequence ?? 0)) sorted = false;
    entries.push(entry);
    return true;
  };
  for (let index = 0; entries.length < maxEvents; index += 1) {
    const member = entries[index];
    if (member === undefined) {
      const other = ready.first;
      if (other === undefined || !take(other)) break;
      ready.take();
      index -= 1;
    } else if (member.followers !== null) {
      member.followers = member.followers.filter((follower) => {
        if (follower.blockers !== 1 || follower.crossing !== null || !take(follower)) return true;
        follower.blockers = 0;
        return false;
      });
    }
  }
  if (!sorted) entries.sort((a, b) => a.sequence - b.sequence);
}
