/** The worker's metrics (docs/reference/metrics.md). Labels hold names of callbacks only, never row data. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import type { ChangeEvent } from "../core/event.ts";
import { type CountTally, TalliedCounter, TalliedHistogram } from "./tallies.ts";

const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const LAG_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 86_400];

/** What a relay reports of one callback. */
export interface CallbackMetrics {
  attempted(outcome: AttemptOutcome, events: readonly ChangeEvent[], seconds: number): void;
  /** @param refused the callback will not take the event, however often it is sent */
  buried(refused: boolean): void;
  databaseFailed(): void;
  /** The filter's expression could not say of an event. */
  unfiltered(): void;
}

export class WorkerMetrics {
  readonly databaseUp: Gauge;
  readonly databaseReconnects: Counter;
  readonly clockSkew: Gauge;
  readonly wakeUpMode: Gauge;
  readonly schemaChangeMode: Gauge;
  readonly #deliveries: TalliedCounter;
  readonly #attempts: TalliedCounter;
  readonly #duration: TalliedHistogram;
  readonly #lag: TalliedHistogram;
  readonly #deadLetters: Counter;
  readonly #databaseFailures: Counter;
  readonly #filterErrors: Counter;
  readonly pending: Gauge;
  readonly oldestAge: Gauge;
  readonly inFlight: Gauge;
  readonly held: Gauge;
  readonly heldLanes: Gauge;
  readonly parked: Gauge;
  readonly resending: Gauge;
  readonly #callbacks = new Map<string, CallbackMetrics>();
  readonly outboxBytes: Gauge;
  readonly limitReached: Gauge;
  readonly capturePaused: Gauge;
  readonly lostEvents: Gauge;
  readonly skippedChanges: Counter;

  constructor(registry: Registry) {
    const registers = [registry];
    const labelNames = ["callback"];
    this.databaseUp = new Gauge({ name: "pgevents_db_up", help: "1 while the database answers.", registers });
    this.databaseReconnects = new Counter({
      name: "pgevents_db_reconnects_total",
      help: "Lost wake-up connections.",
      registers,
    });
    this.clockSkew = new Gauge({
      name: "pgevents_clock_skew_seconds",
      help: "Seconds that this machine's clock is ahead of the database's, negative when it is behind.",
      registers,
    });
    this.wakeUpMode = new Gauge({
      name: "pgevents_wake_up_mode",
      help: "1 for the mode in use: listen, or poll behind a transaction pooler.",
      labelNames: ["mode"],
      registers,
    });
    this.schemaChangeMode = new Gauge({
      name: "pgevents_schema_change_mode",
      help: "1 for how changes of tables are noticed: EventTrigger, Poll, or Off.",
      labelNames: ["mode"],
      registers,
    });
    this.#deliveries = new TalliedCounter({
      name: "pgevents_deliveries_total",
      help: "Events settled, by result: success, rejected (the callback refused the event for good) or dead_letter (its attempts were used up, or it cannot be sent). The last two are dead letters.",
      labelNames: ["callback", "result"],
      registers,
    });
    this.#attempts = new TalliedCounter({
      name: "pgevents_delivery_attempts_total",
      help: "Requests, by status code or kind of failure.",
      labelNames: ["callback", "code"],
      registers,
    });
    this.#duration = new TalliedHistogram({
      name: "pgevents_delivery_duration_seconds",
      help: "Time of one request.",
      labelNames,
      buckets: DURATION_BUCKETS,
      registers,
    });
    this.#lag = new TalliedHistogram({
      name: "pgevents_delivery_lag_seconds",
      help: "From the write in the database to the acknowledgement, of the first event of each request.",
      labelNames,
      buckets: LAG_BUCKETS,
      registers,
    });
    this.#deadLetters = new Counter({
      name: "pgevents_dead_letters_total",
      help: "Events that became dead letters, refused or given up.",
      labelNames,
      registers,
    });
    this.#databaseFailures = new Counter({
      name: "pgevents_db_failures_total",
      help: "Database operations of the relay that failed and were repeated.",
      labelNames,
      registers,
    });
    this.#filterErrors = new Counter({
      name: "pgevents_filter_errors_total",
      help: "Events of which the filter's expression could not say; they are delivered.",
      labelNames,
      registers,
    });
    this.pending = new Gauge({
      name: "pgevents_pending_events",
      help: "Events neither acknowledged nor parked, an estimate above 10000; set by one worker.",
      labelNames,
      registers,
    });
    this.oldestAge = new Gauge({
      name: "pgevents_oldest_pending_event_age_seconds",
      help: "Age of the oldest event not acknowledged.",
      labelNames,
      registers,
    });
    this.inFlight = new Gauge({
      name: "pgevents_inflight_deliveries",
      help: "Requests under way.",
      labelNames,
      registers,
    });
    this.held = new Gauge({
      name: "pgevents_callback_held",
      help: "1 while this worker relays the callback, or some of its lanes.",
      labelNames,
      registers,
    });
    this.heldLanes = new Gauge({
      name: "pgevents_held_lanes",
      help: "Lanes of the callback that this worker holds; 32 in all.",
      labelNames,
      registers,
    });
    this.parked = new Gauge({
      name: "pgevents_parked_events",
      help: "Events of keys whose attempts fail for long, and what came after them; set by one worker.",
      labelNames,
      registers,
    });
    this.resending = new Gauge({
      name: "pgevents_resending_events",
      help: "Events that lie ready to be delivered again: dead letters, replays, dead letters of other callbacks; set by one worker.",
      labelNames,
      registers,
    });
    this.outboxBytes = new Gauge({
      name: "pgevents_outbox_bytes",
      help: "What the outbox takes on disk; set by the worker that looks after it.",
      registers,
    });
    this.limitReached = new Gauge({
      name: "pgevents_backlog_limit_reached",
      help: "1 while the outbox is beyond this limit of `capture.backlog`: Bytes or Age.",
      labelNames: ["limit"],
      registers,
    });
    this.capturePaused = new Gauge({
      name: "pgevents_capture_paused",
      help: "1 while changes are not captured, because a limit was reached.",
      registers,
    });
    this.skippedChanges = new Counter({
      name: "pgevents_skipped_changes_total",
      help: "Changes that could not be captured (`capture.onError` Skip), since capture was made.",
      registers,
    });
    this.lostEvents = new Gauge({
      name: "pgevents_lost_events",
      help: "Events that were dropped before the callback had them, since it was added.",
      labelNames,
      registers,
    });
  }

  forCallback(callback: string): CallbackMetrics {
    let metrics = this.#callbacks.get(callback);
    if (metrics === undefined) {
      metrics = this.#newCallback(callback);
      this.#callbacks.set(callback, metrics);
    }
    return metrics;
  }

  #newCallback(callback: string): CallbackMetrics {
    const delivered = this.#deliveries.tally({ callback, result: "success" });
    const rejected = this.#deliveries.tally({ callback, result: "rejected" });
    const givenUp = this.#deliveries.tally({ callback, result: "dead_letter" });
    const deadLetters = this.#deadLetters.labels(callback);
    const duration = this.#duration.tally({ callback });
    const lag = this.#lag.tally({ callback });
    const failures = this.#databaseFailures.labels(callback);
    const filterErrors = this.#filterErrors.labels(callback);
    // There from the beginning: what begins with 1 has not increased.
    for (const counter of [deadLetters, failures, filterErrors]) counter.inc(0);
    const attemptsByCode = new Map<string, CountTally>();
    return {
      attempted: (outcome, events, seconds) => {
        let attempts = attemptsByCode.get(outcome.code);
        if (attempts === undefined) {
          attempts = this.#attempts.tally({ callback, code: outcome.code });
          attemptsByCode.set(outcome.code, attempts);
        }
        attempts.count += 1;
        duration.observe(seconds);
        if (outcome.kind !== "acknowledged") return;
        delivered.count += events.length;
        const first = events[0];
        if (first !== undefined && first.resent === undefined)
          lag.observe(Math.max(0, (Date.now() - Date.parse(first.time)) / 1000));
      },
      buried: (refused) => {
        (refused ? rejected : givenUp).count += 1;
        deadLetters.inc();
      },
      databaseFailed: () => failures.inc(),
      unfiltered: () => filterErrors.inc(),
    };
  }
}
