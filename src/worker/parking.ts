/** Stores as parked what keeps failing, and what came after it; the position may pass it then. */
import type { Entry } from "../core/delivery/entry.ts";
import type { RelayState } from "../core/delivery/relay-state.ts";
import type { RelayStore } from "../postgres/relay-store.ts";
import type { Logger } from "../runtime/log.ts";

export interface ParkingOptions {
  readonly callback: string;
  readonly state: RelayState;
  /** The ids that are stored; null: the relay ends. */
  readonly store: (...what: Parameters<RelayStore["park"]>) => Promise<ReadonlySet<string> | null>;
  readonly lastError: () => string | null;
  readonly onParked: () => void;
  readonly onNotStored: () => void;
  readonly log: Logger;
}

export class Parking {
  readonly #options: ParkingOptions;
  #underWay = false;

  constructor(options: ParkingOptions) {
    this.#options = options;
  }

  get underWay(): boolean {
    return this.#underWay;
  }

  /** Parks what there is to park, unless that is under way. */
  begin(nowMs: number): void {
    if (this.#underWay) return;
    const entries = this.#options.state.toPark(nowMs);
    if (entries.length > 0) void this.#park(entries);
  }

  async #park(entries: readonly Entry[]): Promise<void> {
    const { callback, state, store, lastError, onParked, onNotStored, log } = this.#options;
    this.#underWay = true;
    const stored = await store(entries, (entry) => {
      const attempts = state.attemptsOf(entry);
      return { attempts, error: attempts > 0 ? lastError() : null };
    });
    this.#underWay = false;
    if (stored === null) return onNotStored();
    const kept = entries.filter(({ id }) => stored.has(id));
    const gone = entries.filter(({ id }) => !stored.has(id)); // dropped at the outbox's limit, and counted there
    if (kept.some((entry) => state.attemptsOf(entry) > 0)) {
      const about = { callback, parked: state.parked + kept.length, error: lastError() };
      log.info(about, "events parked: attempts of their keys fail");
    }
    state.park(kept, gone, performance.now());
    onParked();
  }
}
