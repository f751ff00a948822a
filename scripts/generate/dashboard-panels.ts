/**
 * What the Grafana dashboard shows. Every query goes by the labels source_namespace and source, which workers get from
 * their monitor; of several workers one alone measures what waits, hence max.
 */
import {
  BY_CALLBACK,
  BY_SOURCE,
  CALLBACK,
  counted,
  graph,
  measured,
  OF_SOURCE,
  operatorQuantile,
  quantile,
  query,
  type Row,
  SOURCE,
  stat,
} from "./dashboard-queries.ts";

export const ROWS: readonly Row[] = [
  {
    title: "Overview",
    panels: [
      stat(
        "Sources",
        "short",
        `count(max by ${BY_SOURCE} (pgevents_source_suspended{${OF_SOURCE}}))`,
        "PgEventSources that the operator knows.",
      ),
      stat(
        "Ready",
        "short",
        `sum(max by ${BY_SOURCE} (pgevents_source_condition{${OF_SOURCE},type="Ready",status="True"}))`,
        "PgEventSources whose condition Ready is True.",
      ),
      stat(
        "Waiting events",
        "short",
        `sum(max by ${BY_CALLBACK} (pgevents_pending_events{${OF_SOURCE}}))`,
        "Events that a callback has not got, an estimate above 10,000 for each callback.",
      ),
      stat(
        "Oldest waiting event",
        "s",
        `max(pgevents_oldest_pending_event_age_seconds{${OF_SOURCE}})`,
        "Age of the oldest event that a callback has not got.",
      ),
      stat(
        "Dead letters, last day",
        "short",
        `sum(increase(pgevents_dead_letters_total{${OF_SOURCE}}[1d]))`,
        "Events that became dead letters in the last day.",
      ),
      stat(
        "Databases that answer",
        "short",
        `sum(min by ${BY_SOURCE} (pgevents_db_up{${OF_SOURCE}}))`,
        "Sources all of whose workers reach their database.",
      ),
    ],
  },
  {
    title: "Delivery",
    panels: [
      graph(
        "Events delivered",
        "ops",
        "Events a second that callbacks took (success), refused for good (rejected), or did not take in all attempts (dead_letter).",
        query(
          `sum by (source_namespace, source, callback, result) (rate(pgevents_deliveries_total{${OF_SOURCE}}[$__rate_interval]))`,
          `${CALLBACK} {{result}}`,
        ),
      ),
      graph(
        "From write to acknowledgement",
        "s",
        "Of the first event of each request.",
        quantile(0.5, "pgevents_delivery_lag_seconds"),
        quantile(0.99, "pgevents_delivery_lag_seconds"),
      ),
      graph(
        "Time of a request",
        "s",
        "What the receiver takes.",
        quantile(0.99, "pgevents_delivery_duration_seconds"),
      ),
      graph(
        "Requests by result",
        "ops",
        "Status code, or kind of failure.",
        query(
          `sum by (source_namespace, source, callback, code) (rate(pgevents_delivery_attempts_total{${OF_SOURCE}}[$__rate_interval]))`,
          `${CALLBACK} {{code}}`,
        ),
      ),
      graph(
        "Requests under way",
        "short",
        "At most delivery.maxInFlight for each callback and worker.",
        query(`sum by ${BY_CALLBACK} (pgevents_inflight_deliveries{${OF_SOURCE}})`, CALLBACK),
      ),
      graph(
        "Lanes held",
        "short",
        "32 for each callback; fewer: a lane waits for a worker.",
        query(`sum by ${BY_CALLBACK} (pgevents_held_lanes{${OF_SOURCE}})`, CALLBACK),
      ),
    ],
  },
  {
    title: "What waits",
    panels: [
      graph(
        "Waiting events",
        "short",
        "Not acknowledged and not parked.",
        measured("pgevents_pending_events"),
      ),
      graph("Oldest waiting event", "s", "Its age.", measured("pgevents_oldest_pending_event_age_seconds")),
      graph(
        "Parked events",
        "short",
        "Of keys that fail, with what follows them.",
        measured("pgevents_parked_events"),
      ),
      graph(
        "Events to deliver again",
        "short",
        "Dead letters and replays that are on their way again.",
        measured("pgevents_resending_events"),
      ),
      graph(
        "Dead letters",
        "ops",
        "Events a second that became dead letters.",
        counted("pgevents_dead_letters_total"),
      ),
      graph(
        "Lost events",
        "short",
        "Dropped at a limit of the outbox, since the callback was added.",
        measured("pgevents_lost_events"),
      ),
    ],
  },
  {
    title: "Database",
    panels: [
      graph(
        "Outbox",
        "bytes",
        "What it takes on the database's disk.",
        query(`max by ${BY_SOURCE} (pgevents_outbox_bytes{${OF_SOURCE}})`, SOURCE),
      ),
      graph(
        "Limits reached, capture paused",
        "short",
        "1 while it is so.",
        query(
          `max by (source_namespace, source, limit) (pgevents_backlog_limit_reached{${OF_SOURCE}})`,
          `${SOURCE} {{limit}}`,
        ),
        query(`max by ${BY_SOURCE} (pgevents_capture_paused{${OF_SOURCE}})`, `${SOURCE} paused`),
      ),
      graph(
        "Failures",
        "ops",
        "Database operations that were repeated, and wake-up connections that were lost.",
        counted("pgevents_db_failures_total"),
        query(
          `sum by ${BY_SOURCE} (rate(pgevents_db_reconnects_total{${OF_SOURCE}}[$__rate_interval]))`,
          `${SOURCE} reconnects`,
        ),
      ),
    ],
  },
  {
    title: "Operator",
    panels: [
      graph(
        "Conditions that are not True",
        "short",
        "1 for each.",
        query(
          `max by (source_namespace, source, type) (pgevents_source_condition{${OF_SOURCE},status="True"}) == bool 0`,
          `${SOURCE} {{type}}`,
        ),
      ),
      graph(
        "Reconciles",
        "ops",
        "By result.",
        query("sum by (result) (rate(pgevents_reconcile_total[$__rate_interval]))", "{{result}}"),
      ),
      graph(
        "Time of a reconcile, of a build",
        "s",
        "99 of 100 take less.",
        operatorQuantile("pgevents_reconcile_duration_seconds"),
        operatorQuantile("pgevents_build_duration_seconds"),
      ),
      graph(
        "Builds",
        "short",
        "Builds in the last hour that changed a database or failed.",
        query(
          `sum by (source_namespace, source, result) (increase(pgevents_builds_total{${OF_SOURCE}}[1h]))`,
          `${SOURCE} {{result}}`,
        ),
      ),
      graph(
        "Queue",
        "short",
        "Sources that wait to be looked at.",
        query("max(pgevents_workqueue_depth)", "depth"),
        query("max(pgevents_workqueue_longest_running_processor_seconds)", "longest, seconds"),
      ),
      graph(
        "Requests to the API server",
        "ops",
        "By status code.",
        query("sum by (code) (rate(pgevents_api_requests_total[$__rate_interval]))", "{{code}}"),
      ),
      graph("Operators that lead", "short", "1, or for seconds 0.", query("sum(pgevents_leader)", "leaders")),
      graph(
        "Memory",
        "bytes",
        "Resident, of every pod.",
        query(
          "max by (namespace, pod) (process_resident_memory_bytes * on (instance) group_left () max by (instance) (pgevents_build_info))",
          "{{namespace}}/{{pod}}",
        ),
      ),
      graph(
        "CPU",
        "short",
        "Cores, of every pod.",
        query(
          "sum by (namespace, pod) (rate(process_cpu_seconds_total[$__rate_interval]) * on (instance) group_left () max by (instance) (pgevents_build_info))",
          "{{namespace}}/{{pod}}",
        ),
      ),
    ],
  },
];
