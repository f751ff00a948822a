/**
 * Brings what is to be delivered again (dead letters, replays; sql/functions_replay.sql) into the relay: looks
 * when a command says so, every few seconds otherwise, and at once while there is more than fits.
 */
import type { ReadEvent } from "../core/delivery/entry.ts";
import { pause } from "./pause.ts";

/** Events of a callback that are here to be delivered again, at most; and below which more are taken. */
const HELD = 1000;
const TAKE_BELOW = 500;
/** Events of a replay that lie ready, over all workers. */
const READY = 2000;
/** Milliseconds between looks: while there is something to take, and, doubling, up to when there is nothing. */
const LOOK_MS = [20, 2500] as const;

export interface ResendsOptions {
  /** Lays events of a replay ready; null: another worker does it. */
  readonly feed: ((room: number) => Promise<boolean | null>) | null;
  /** Takes what lies ready; null: the relay ends. */
  readonly take: (limit: number) => Promise<readonly ReadEvent[] | null>;
  /** How many are here. */
  readonly left: () => number;
  readonly onTaken: (events: readonly ReadEvent[]) => Promise<void>;
}

export class Resends {
  readonly #options: ResendsOptions;
  readonly #running: Promise<void>;
  #nudged = new AbortController();

  /** @param signal no more are taken */
  constructor(options: ResendsOptions, signal: AbortSignal) {
    this.#options = options;
    this.#running = this.#run(signal);
  }

  /** There is something to look for. */
  nudge(): void {
    this.#nudged.abort();
  }

  async end(): Promise<void> {
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { feed, take, left, onTaken } = this.#options;
    let waitMs: number = LOOK_MS[0];
    for (let before = left(); !signal.aborted; before = left()) {
      this.#nudged = new AbortController();
      let taken = 0;
      if (before < TAKE_BELOW) {
        const replays = await feed?.(READY);
        const events = replays === null ? null : await take(HELD - left());
        if (events === null) return;
        taken = events.length;
        if (taken > 0) await onTaken(events);
      }
      await pause(waitMs, AbortSignal.any([signal, this.#nudged.signal]));
      const moves = taken > 0 || left() !== before || this.#nudged.signal.aborted;
      waitMs = moves ? LOOK_MS[0] : Math.min(waitMs * 2, LOOK_MS[1]);
    }
  }
}
