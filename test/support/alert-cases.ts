/** When each alert of the chart fires, and when not: series as promtool takes them, a sample a minute. */
export interface AlertCase {
  readonly title: string;
  readonly alert: string;
  readonly series: Readonly<Record<string, string>>;
  /** When to look. */
  readonly at: string;
  /** What fires then; null: nothing. */
  readonly fires: {
    readonly labels: Readonly<Record<string, string>>;
    readonly summary: string;
    readonly description: string;
  } | null;
}

const SOURCE = { source_namespace: "shop", source: "orders" };
const CALLBACK = { ...SOURCE, callback: "search" };
const of = (labels: Record<string, string>): string =>
  `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(",")}}`;
const worker = (pod: string, labels = {}) => of({ ...CALLBACK, ...labels, pod });
const source = (labels = {}) => of({ ...SOURCE, ...labels, pod: "operator" });
const HELD = {
  [`pgevents_callback_held${worker("a")}`]: "0x120",
  [`pgevents_callback_held${worker("b")}`]: "1x120",
};
const condition = (type: string, status: string) => `pgevents_source_condition${source({ type, status })}`;

const lagging = (age: string, title: string, held: Record<string, string>, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsDeliveryLagging",
  series: { [`pgevents_oldest_pending_event_age_seconds${worker("b")}`]: age, ...held },
  at: "20m",
  fires: fires
    ? {
        labels: { ...CALLBACK, severity: "warning" },
        summary: "Events for shop/orders are late.",
        description: "The oldest event that callback search has not got is 20m 0s old.",
      }
    : null,
});

const stalled = (title: string, series: Record<string, string>, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsDeliveryStalled",
  series: {
    [`pgevents_oldest_pending_event_age_seconds${worker("b")}`]: "0+60x120",
    [`pgevents_pending_events${worker("b")}`]: "5x120",
    [`pgevents_deliveries_total${worker("b", { result: "success" })}`]: "7x120",
    [`pgevents_deliveries_total${worker("a", { result: "success" })}`]: "3x120",
    ...HELD,
    ...series,
  },
  at: "30m",
  fires: fires
    ? {
        labels: { ...CALLBACK, severity: "critical" },
        summary: "A callback of shop/orders takes nothing.",
        description:
          "Callback search has taken no event for 600 seconds, while events wait for it; the oldest for 30m 0s.",
      }
    : null,
});

const deadLetters = (title: string, values: string, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsDeadLetters",
  series: { [`pgevents_dead_letters_total${worker("a")}`]: values },
  at: "15m",
  fires: fires
    ? {
        labels: { ...CALLBACK, severity: "warning" },
        summary: "Events of shop/orders became dead letters.",
        description:
          "Callback search did not take 3 events in 15 minutes. They are kept until somebody delivers them again or discards them.",
      }
    : null,
});

const building = (title: string, values: string, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsBuildFailing",
  series: { [condition("Built", "False")]: values, [condition("Delivering", "False")]: "1x120" },
  at: "20m",
  fires: fires
    ? {
        labels: { ...SOURCE, severity: "warning" },
        summary: "Capture of shop/orders is not as its spec wants it.",
        description: "The condition Built is False. Its message says which table is not captured, and why.",
      }
    : null,
});

const leading = (title: string, series: Record<string, string>, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsOperatorDown",
  series,
  at: "10m",
  fires: fires
    ? {
        labels: { namespace: "pg-events", severity: "critical" },
        summary: "No operator of pg-events leads.",
        description:
          "Workers go on, but no PgEventSource is built, changed or looked after by the operator in namespace pg-events.",
      }
    : null,
});

const growing = (title: string, values: string, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsOutboxGrowing",
  series: {
    [`pgevents_outbox_bytes${of({ ...SOURCE, pod: "a" })}`]: "0x120",
    [`pgevents_outbox_bytes${of({ ...SOURCE, pod: "b" })}`]: values,
  },
  at: "100m",
  fires: fires
    ? {
        labels: { ...SOURCE, severity: "warning" },
        summary: "The outbox of shop/orders grows.",
        description: "It takes 2.939GiB of the database's disk, and has been growing for an hour.",
      }
    : null,
});

const ready = (title: string, values: string, suspended: string, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsSourceNotReady",
  series: { [condition("Ready", "True")]: values, [`pgevents_source_suspended${source()}`]: suspended },
  at: "20m",
  fires: fires
    ? {
        labels: { ...SOURCE, severity: "warning" },
        summary: "The PgEventSource shop/orders is not Ready.",
        description: "The first condition that is not True has the reason.",
      }
    : null,
});

const limited = (title: string, values: string, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsBacklogLimitReached",
  series: { [`pgevents_backlog_limit_reached${of({ ...SOURCE, limit: "Bytes", pod: "a" })}`]: values },
  at: "10m",
  fires: fires
    ? {
        labels: { ...SOURCE, limit: "Bytes", severity: "critical" },
        summary: "The outbox of shop/orders is at its limit.",
        description:
          "The limit Bytes of spec.capture.backlog is reached: the disk fills on, or events are lost, as its onLimit says.",
      }
    : null,
});

const lost = (title: string, series: Record<string, string>, fires: boolean): AlertCase => ({
  title,
  alert: "PgEventsEventsLost",
  series,
  at: "20m",
  fires: fires
    ? {
        labels: { ...CALLBACK, severity: "critical" },
        summary: "Events of shop/orders were dropped.",
        description: "Callback search will not get 40 events: the outbox was at its limit.",
      }
    : null,
});

export const ALERT_CASES: readonly AlertCase[] = [
  lagging("0+60x120", "an event is older than five minutes", HELD, true),
  lagging("0 60 120 0x120", "events go through", HELD, false),
  lagging(
    "0+60x120",
    "nobody holds the callback, as it is suspended",
    { [`pgevents_callback_held${worker("b")}`]: "0x120" },
    false,
  ),
  stalled("nothing goes through, and events wait", {}, true),
  stalled(
    "something goes through, by another worker",
    { [`pgevents_deliveries_total${worker("a", { result: "success" })}`]: "0+1x120" },
    false,
  ),
  stalled("only parked events are old", { [`pgevents_pending_events${worker("b")}`]: "0x120" }, false),
  stalled("the callback is suspended", { [`pgevents_callback_held${worker("b")}`]: "0x120" }, false),
  deadLetters("events became dead letters", "0 0 1 2 3x20", true),
  deadLetters("there were some long ago", "5x30", false),
  deadLetters("a worker starts again", "5 5 5 0x20", false),
  building("Built is False for long", "1x120", true),
  building("Built was False for some minutes", "1x15 0x120", false),
  leading("no operator is there", {}, true),
  leading(
    "two are there and none leads",
    {
      'pgevents_leader{namespace="pg-events",pod="a"}': "0x60",
      'pgevents_leader{namespace="pg-events",pod="b"}': "0x60",
    },
    true,
  ),
  leading(
    "only the operator of another namespace leads",
    { 'pgevents_leader{namespace="other",pod="a"}': "1x60" },
    true,
  ),
  leading(
    "one of two leads",
    {
      'pgevents_leader{namespace="pg-events",pod="a"}': "0x60",
      'pgevents_leader{namespace="pg-events",pod="b"}': "1x60",
    },
    false,
  ),
  growing("it is large and grows", "1073741824+20819148x120", true),
  growing("it is large and does not grow", "2073741824x120", false),
  growing("it grows and is small", "1000+10x120", false),
  ready("Ready is not True for long", "0x120", "0x120", true),
  ready("it is suspended", "0x120", "1x120", false),
  ready("it is ready again", "0x10 1x120", "0x120", false),
  limited("a limit is reached for long", "1x120", true),
  limited("a limit was reached", "1x3 0x120", false),
  lost("events are dropped", { [`pgevents_lost_events${worker("a")}`]: "0x10 40x20" }, true),
  lost(
    "another worker tells of an old loss",
    {
      [`pgevents_lost_events${worker("a")}`]: "40x10 _x20",
      [`pgevents_lost_events${worker("b")}`]: "_x10 40x20",
    },
    false,
  ),
];
