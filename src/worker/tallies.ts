/**
 * Counters and histograms for what happens tens of thousands of times a second: an observation adds to
 * plain numbers, and the labels are put to them only when somebody reads the metrics.
 */
import { Counter, type CounterConfiguration, Histogram, type HistogramConfiguration } from "prom-client";

export interface CountTally {
  count: number;
}

export class TalliedCounter extends Counter {
  readonly #tallies: { readonly labels: Record<string, string>; readonly tally: CountTally }[] = [];

  constructor(configuration: Omit<CounterConfiguration<string>, "collect">) {
    super(configuration);
  }

  /** What to add to for these labels. */
  tally(labels: Record<string, string>): CountTally {
    const tally = { count: 0 };
    this.#tallies.push({ labels, tally });
    return tally;
  }

  /** Called by the registry before it reads. */
  collect(): void {
    for (const { labels, tally } of this.#tallies) {
      this.inc(labels, tally.count);
      tally.count = 0;
    }
  }
}

export interface TimeTally {
  observe(seconds: number): void;
}

interface Buckets extends TimeTally {
  readonly labels: Record<string, string>;
  readonly counts: number[];
  sum: number;
}

export class TalliedHistogram extends Histogram {
  readonly #configuration: HistogramConfiguration<string>;
  readonly #bounds: readonly number[];
  readonly #tallies: Buckets[] = [];

  constructor(configuration: HistogramConfiguration<string> & { readonly buckets: number[] }) {
    super(configuration);
    this.#configuration = configuration;
    this.#bounds = configuration.buckets;
  }

  /** What to observe with for these labels. */
  tally(labels: Record<string, string>): TimeTally {
    const bounds = this.#bounds;
    const counts = new Array<number>(bounds.length + 1).fill(0);
    const tally: Buckets = {
      labels,
      counts,
      sum: 0,
      observe(seconds) {
        let place = 0;
        while (place < bounds.length && seconds > (bounds[place] as number)) place += 1;
        counts[place] = (counts[place] as number) + 1;
        tally.sum += seconds;
      },
    };
    this.#tallies.push(tally);
    return tally;
  }

  /** What the library's `get` and its registry read. */
  async getForPromString() {
    const { name, help, aggregator = "sum" } = this.#configuration;
    const values = this.#tallies.flatMap((tally) => this.#valuesOf(name, tally));
    return { name, help, type: "histogram", aggregator, values };
  }

  #valuesOf(name: string, { labels, counts, sum }: Buckets) {
    let below = 0;
    const buckets = counts.map((count, place) => {
      below += count;
      const le = this.#bounds[place] ?? "+Inf";
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: below },
    ];
  }
}
