/**
 * Events that concern lanes of several holders: who delivers one waits until the others stand before it, and the
 * others wait until its holder is past it. All of them read the log in one order (OutboxCursor), so there is always
 * one that need not wait, but for what fails.
 */
import { isMet, type OthersAt } from "../core/delivery/crossing.ts";
import type { RelayState } from "../core/delivery/relay-state.ts";
import { pause } from "./pause.ts";

/** Milliseconds between looks at the others' positions; doubles to the second number. */
const LOOK_MS = [1, 50] as const;

export interface CrossingsOptions {
  readonly state: RelayState;
  readonly positionsOfOthers: () => Promise<readonly OthersAt[] | null>;
  /** The position may be what others wait for. */
  readonly hurry: () => void;
  readonly onCrossed: () => void;
}

export class Crossings {
  readonly #options: CrossingsOptions;
  #running: Promise<void> | null = null;

  constructor(options: CrossingsOptions) {
    this.#options = options;
  }

  /** Looks at the others for as long as there is something to wait for; `signal` ends that. */
  follow(signal: AbortSignal): void {
    if (this.#options.state.crossings.size === 0 || this.#running !== null || signal.aborted) return;
    this.#running = this.#run(signal);
  }

  async end(): Promise<void> {
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { state, positionsOfOthers, hurry, onCrossed } = this.#options;
    let waitMs: number = LOOK_MS[0];
    while (state.crossings.size > 0 && !signal.aborted) {
      hurry();
      const others = await positionsOfOthers();
      if (others === null || signal.aborted) break;
      const met = [...state.crossings].filter((entry) => isMet(entry, others));
      for (const entry of met) state.crossed(entry, performance.now());
      if (met.length > 0) {
        waitMs = LOOK_MS[0];
        onCrossed();
      } else {
        await pause(waitMs, signal);
        waitMs = Math.min(waitMs * 2, LOOK_MS[1]);
      }
    }
    this.#running = null; // now, and not in a `finally`: what comes next must be able to begin anew
  }
}
