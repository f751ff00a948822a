/** Asks a callback's filter of rows, the expression too; the images of large rows are read for that, one after the other, and not kept. */
import type { CallbackSpec } from "../core/api/callback.ts";
import type { ReadEvent } from "../core/delivery/entry.ts";
import { type EventFilter, eventFilter } from "../core/delivery/filter.ts";
import type { ChangeEvent } from "../core/event.ts";
import type { Logger } from "../runtime/log.ts";
import type { CallbackMetrics } from "./metrics.ts";

/** Problems of an expression that are logged; each once. */
const MAX_PROBLEMS = 20;

export interface WantedRowsOptions {
  readonly callback: CallbackSpec;
  readonly metrics: CallbackMetrics;
  readonly log: Logger;
  /** undefined: the row is gone; null: the relay ends. */
  readonly readImages: (event: ChangeEvent) => Promise<ChangeEvent | undefined | null>;
}

export class WantedRows {
  readonly #options: WantedRowsOptions;
  readonly #filter: EventFilter;
  /** Why the expression could not say, as far as it was logged. */
  readonly #problems = new Set<string>();

  constructor(options: WantedRowsOptions) {
    this.#options = options;
    this.#filter = eventFilter(options.callback, (problem) => this.#note(problem));
  }

  /** By everything but the expression. */
  get wants(): (event: ChangeEvent) => boolean {
    return this.#filter.wants;
  }

  /** Those that the expression does not refuse; what `wants` refuses may be left in. @returns null: the relay ends */
  async of(rows: readonly ReadEvent[]): Promise<readonly ReadEvent[] | null> {
    const { wants, wantsRow } = this.#filter;
    if (wantsRow === null) return rows;
    const wanted: ReadEvent[] = [];
    for (const row of rows) {
      if (!wants(row.event)) continue;
      const event = row.deferred ? await this.#options.readImages(row.event) : row.event;
      if (event === null) return null;
      if (event !== undefined && wantsRow(event)) wanted.push(row);
    }
    return wanted;
  }

  #note(problem: string): void {
    const { callback, metrics, log } = this.#options;
    metrics.unfiltered();
    if (this.#problems.has(problem) || this.#problems.size >= MAX_PROBLEMS) return;
    this.#problems.add(problem);
    log.warn(
      { callback: callback.name, problem },
      "the filter's expression cannot say of an event, which is delivered",
    );
  }
}
