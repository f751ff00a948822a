/**
 * Reads the outbox for a relay, a bounded number of events ahead: at once while there is more, seldom while nothing
 * comes. When that is the wake-ups say (postgres/wake-up.ts).
 */
import type { RelayState } from "../core/delivery/relay-state.ts";
import type { WakeUp } from "../postgres/wake-up.ts";

/** Events read and not sent, above which reading waits, and below which it goes on. */
const READ_AHEAD = 2000;
const READ_ON = 1500;
/** The same for the bytes of their row images; a read brings 16 MiB at most. */
const READ_AHEAD_BYTES = 16 * 2 ** 20;
/** Events behind the oldest that is neither done nor parked, above which reading waits. */
const MAX_SPAN = 50_000;
/** Milliseconds: the longest wait for a wake-up; a wake-up is a hint and may be lost. */
const SAFETY_POLL_MS = 5000;
/** The same where another worker sleeps for this one. */
const RELYING_POLL_MS = 250;
/** Longest wait between reads while writers are at work but nothing has been committed. */
const POLL_MS = 50;
/** The same where wake-ups do not work: behind a transaction pooler, or beside two-phase commit. */
const POOLED_POLL_MS = 500;
/** A read costs as much as several events; where these wait for a batch anyway, reads of few are this far apart. */
const FEW = 100;
const PACE_MS = 5;

/** What a read found. */
export interface Found {
  readonly events: number;
  /** Nothing is left that was visible. */
  readonly current: boolean;
}

export interface ReadingOptions {
  readonly state: Pick<RelayState, "readAhead" | "bytes" | "span">;
  readonly wakeUp: WakeUp;
  /** Milliseconds that events wait for their batch to be filled. */
  readonly batchWaitMs: number;
  /** Reads on; null: the relay ends. */
  readonly read: () => Promise<Found | null>;
}

export class Reading {
  readonly #options: ReadingOptions;
  readonly #running: Promise<void>;
  #room: (() => void) | null = null;

  /** @param signal no more is read */
  constructor(options: ReadingOptions, signal: AbortSignal) {
    this.#options = options;
    signal.addEventListener("abort", () => this.#room?.());
    this.#running = this.#run(signal);
  }

  /** Events were sent or parked: there may be room again. */
  goOn(): void {
    if (this.#hasRoom(READ_ON)) this.#room?.();
  }

  async end(): Promise<void> {
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { wakeUp, batchWaitMs, read } = this.#options;
    const paceMs = Math.min(PACE_MS, batchWaitMs / 4);
    for (let inVain = 0; !signal.aborted; ) {
      if (!this.#hasRoom(READ_AHEAD)) {
        await this.#untilRoom();
        continue;
      }
      const armed = wakeUp.armed;
      const found = await read();
      if (found === null) return;
      if (found.current && armed > 0 && armed === wakeUp.armed) {
        await wakeUp.wait(wakeUp.relies ? RELYING_POLL_MS : SAFETY_POLL_MS, signal);
        inVain = 0;
      } else if (found.events > 0 || !found.current) {
        inVain = 0;
        if (paceMs > 0 && found.events < FEW && wakeUp.armed === 0) await wakeUp.wait(paceMs, signal);
      } else if (!(await wakeUp.arm())) {
        const limit = wakeUp.polls ? POOLED_POLL_MS : POLL_MS;
        await wakeUp.wait(Math.min(limit, 2 ** Math.min(inVain, 16)), signal);
        inVain += 1;
      }
    }
  }

  #hasRoom(readAhead: number): boolean {
    const { readAhead: ahead, bytes, span } = this.#options.state;
    return ahead < readAhead && bytes < READ_AHEAD_BYTES && span < MAX_SPAN;
  }

  #untilRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#room = () => {
        this.#room = null;
        resolve();
      };
    });
  }
}
