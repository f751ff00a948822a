/** Metrics that are read from the running operator at each scrape. */
import { Gauge, type Registry } from "prom-client";

export interface Copy {
  readonly resource: string;
  readonly synced: boolean;
  /** Monotonic milliseconds (performance.now) of the last sign of life. */
  readonly lastActivityMs: number;
}

export interface Readings {
  readonly copies: () => readonly Copy[];
  /** When each reconcile under way began, monotonic milliseconds. */
  readonly reconcilesSinceMs: () => readonly number[];
}

/** Registers the gauges. Several copies of a resource count as their worst. */
export function observeProcess(registry: Registry, { copies, reconcilesSinceMs }: Readings): void {
  const gauge = (name: string, help: string, labelNames: string[], collect: (self: Gauge) => void) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        collect(this as Gauge);
      },
    });
  const byResource = (value: (copy: Copy) => number) => (self: Gauge) => {
    for (const [resource, same] of Map.groupBy(copies(), (copy) => copy.resource)) {
      self.set({ resource }, Math.min(...same.map(value)));
    }
  };
  const secondsSince = (ms: number) => (performance.now() - ms) / 1000;
  const seconds = () => reconcilesSinceMs().map(secondsSince);
  const queue = { name: "pgeventsource" };
  gauge(
    "pgevents_informer_synced",
    "1 once the first list is done.",
    ["resource"],
    byResource(({ synced }) => (synced ? 1 : 0)),
  );
  gauge(
    "pgevents_informer_last_activity_timestamp_seconds",
    "When the API server last gave a sign of life.",
    ["resource"],
    byResource(({ lastActivityMs }) => Date.now() / 1000 - secondsSince(lastActivityMs)),
  );
  gauge(
    "pgevents_workqueue_unfinished_work_seconds",
    "Time that the reconciles under way have taken so far, summed.",
    ["name"],
    (self) =>
      self.set(
        queue,
        seconds().reduce((sum, one) => sum + one, 0),
      ),
  );
  gauge(
    "pgevents_workqueue_longest_running_processor_seconds",
    "Time that the longest reconcile under way has taken so far.",
    ["name"],
    (self) => self.set(queue, Math.max(0, ...seconds())),
  );
}
