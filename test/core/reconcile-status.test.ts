import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ConditionType, Reason } from "../../src/core/api/conditions.ts";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import type { PgEventSource } from "../../src/core/api/source.ts";
import type { PgEventSourceStatus } from "../../src/core/api/status.ts";
import { finding } from "../../src/core/capture/findings.ts";
import {
  assess,
  assessBlocked,
  assessDisabled,
  assessFirst,
  assessInvalid,
} from "../../src/core/reconcile/assess.ts";
import type {
  Observed,
  ObservedDelivery,
  ObservedDeployment,
  ObservedOutbox,
} from "../../src/core/reconcile/observed.ts";
import { nextCleanupMs, nextLookMs } from "../../src/core/reconcile/schedule.ts";
import { transitions } from "../../src/core/reconcile/transitions.ts";

const T0 = "2025-12-31T23:00:00Z";
const T1 = "2026-01-01T00:00:00Z";
const T2 = "2026-01-01T00:01:00Z";

function source(spec: Record<string, unknown> = {}): PgEventSource {
  return parsePgEventSource(
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop", namespace: "store", uid: "u", generation: 3 },
      spec: {
        database: { secretRef: { name: "shop-db" } },
        callbacks: [{ name: "orders", http: { uri: "https://orders.example.com/" } }],
        ...spec,
      },
    },
    "store/shop",
  );
}

const DEPLOYMENT: ObservedDeployment = {
  metadata: { name: "shop", generation: 2 },
  spec: { replicas: 2 },
  status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2 },
};
const ORDERS: ObservedDelivery = {
  name: "orders",
  held: true,
  state: "Delivering",
  lastError: null,
  pending: 4,
  oldestPendingTime: T0,
  deadLetters: 1,
  lostEvents: 0,
};
const WELL: Observed = {
  source: source(),
  credentials: { ok: true, message: "found" },
  database: { ok: true, message: "PostgreSQL 18." },
  build: {
    tables: 3,
    failures: [],
    findings: [],
    usable: true,
    manual: null,
    specHash: "h",
    schemaVersion: 5,
    serverVersion: "18.1",
    schemaChangeMode: "Poll",
    changed: true,
  },
  deployment: DEPLOYMENT,
  delivery: [ORDERS],
};
const OUTBOX: ObservedOutbox = {
  backlog: { bytes: 2 ** 25, callbacks: [{ name: "orders", oldestAgeSeconds: 400 }] },
  reached: null,
  losses: { pausedSince: null, lostAt: null, skippedAt: null, skippedChanges: 0 },
};
const unavailableSince = (lastTransitionTime: string) => ({
  ...DEPLOYMENT.status,
  availableReplicas: 0,
  conditions: [
    { type: "Available", status: "False", reason: "MinimumReplicasUnavailable", lastTransitionTime },
    { type: "Progressing", status: "True", reason: "NewReplicaSetAvailable", lastTransitionTime },
  ],
});
const problem = (reason: Reason) => ({ ok: false, reason, message: `because of ${reason}` }) as const;
const look = (changes: Partial<Observed>, previous?: PgEventSourceStatus, now = T1) =>
  assess({ ...WELL, ...changes }, previous, now, "1.2.3");
const conditionOf = (status: PgEventSourceStatus, type: ConditionType) => {
  const found = status.conditions?.find((one) => one.type === type);
  assert.ok(found, type);
  return found;
};
const shortOf = (status: PgEventSourceStatus, type: ConditionType) => {
  const { status: value, reason } = conditionOf(status, type);
  return `${value} ${reason}`;
};

describe("the status of a source", () => {
  test("that is well is this, as a whole", () => {
    const good = (type: string, reason: string, message: string) => ({
      type,
      status: "True",
      reason,
      message,
      observedGeneration: 3,
      lastTransitionTime: T1,
    });
    assert.deepEqual(look({}), {
      observedGeneration: 3,
      conditions: [
        good("Ready", "Ready", "Events flow to every callback."),
        good("CredentialsResolved", "Resolved", "found"),
        good("DatabaseReachable", "Connected", "PostgreSQL 18."),
        good("Built", "Built", "Tables captured: 3."),
        good("CallbacksResolved", "Resolved", "Every callback has a target."),
        good("Deployed", "Available", "2 of 2 worker pods are available."),
        good("Delivering", "Delivering", "Callbacks served: 1."),
      ],
      build: {
        specHash: "h",
        schemaVersion: 5,
        captureMode: "Trigger",
        version: "1.2.3",
        tables: 3,
        serverVersion: "18.1",
        schemaChangeMode: "Poll",
        lastBuildTime: T1,
      },
      worker: {
        deploymentName: "shop",
        replicas: 2,
        readyReplicas: 2,
        selector: "app.kubernetes.io/name=pgevents-worker,pgevents.dev/source=shop",
      },
      delivery: { pendingEvents: 4, oldestPendingTime: T0, deadLetters: 1, lostEvents: 0 },
      callbacks: [
        {
          name: "orders",
          uri: "https://orders.example.com/",
          state: "Delivering",
          pendingEvents: 4,
          oldestPendingTime: T0,
        },
      ],
    });
  });

  const failure = (code: "TableNotFound" | "LockTimeout", table: string) => finding(code, table, `${table}!`);
  const cases: [string, Partial<Observed>, ConditionType, string][] = [
    [
      "a Secret is missing",
      { credentials: problem("SecretNotFound") },
      "CredentialsResolved",
      "False SecretNotFound",
    ],
    [
      "the database is away",
      { database: problem("ConnectionFailed"), build: null },
      "DatabaseReachable",
      "False ConnectionFailed",
    ],
    ["nothing was built as the database is away", { build: null }, "Built", "Unknown Pending"],
    ["the build was refused", { build: problem("OwnershipConflict") }, "Built", "False OwnershipConflict"],
    [
      "a table is missing",
      {
        build: {
          tables: 2,
          failures: [failure("TableNotFound", "a.b")],
          findings: [failure("TableNotFound", "a.b")],
          usable: true,
          manual: null,
          specHash: "h",
          schemaVersion: 5,
          serverVersion: "18",
          schemaChangeMode: "Poll",
          changed: false,
        },
      },
      "Built",
      "False TableNotFound",
    ],
    ["there is no Deployment yet", { deployment: null }, "Deployed", "Unknown Pending"],
    [
      "a foreign Deployment has the name",
      { deployment: problem("NameConflict") },
      "Deployed",
      "False NameConflict",
    ],
    [
      "a pod is not available",
      { deployment: { ...DEPLOYMENT, status: { ...DEPLOYMENT.status, availableReplicas: 1 } } },
      "Deployed",
      "Unknown DeploymentUpdating",
    ],
    [
      "old pods are still there",
      { deployment: { ...DEPLOYMENT, status: { ...DEPLOYMENT.status, replicas: 3 } } },
      "Deployed",
      "Unknown DeploymentUpdating",
    ],
    [
      "the Deployment was not looked at since",
      { deployment: { ...DEPLOYMENT, metadata: { name: "shop", generation: 3 } } },
      "Deployed",
      "Unknown DeploymentUpdating",
    ],
    [
      "pods are refused",
      {
        deployment: {
          ...DEPLOYMENT,
          status: { conditions: [{ type: "ReplicaFailure", status: "True", reason: "FailedCreate" }] },
        },
      },
      "Deployed",
      "False DeploymentUnavailable",
    ],
    [
      "F38 no pod is available for a minute",
      { deployment: { ...DEPLOYMENT, status: unavailableSince("2025-12-31T23:59:00Z") } },
      "Deployed",
      "False DeploymentUnavailable",
    ],
    [
      "no pod is available, for less than a minute",
      { deployment: { ...DEPLOYMENT, status: unavailableSince("2025-12-31T23:59:01Z") } },
      "Deployed",
      "Unknown DeploymentUpdating",
    ],
    [
      "the rollout takes too long",
      {
        deployment: {
          ...DEPLOYMENT,
          status: {
            conditions: [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" }],
          },
        },
      },
      "Deployed",
      "False DeploymentUnavailable",
    ],
    [
      "F40 what a callback refers to is missing",
      { addresses: { found: new Map(), problem: problem("CallbackNotFound") } },
      "CallbacksResolved",
      "False CallbackNotFound",
    ],
    [
      "F40 what a callback refers to was not looked up",
      { source: source({ callbacks: [{ name: "orders", http: { ref: { name: "stock" } } }] }) },
      "CallbacksResolved",
      "Unknown Pending",
    ],
    [
      "no worker holds the callback",
      { delivery: [{ ...ORDERS, held: false }] },
      "Delivering",
      "Unknown WaitingForWorker",
    ],
    ["the callback is new", { delivery: [] }, "Delivering", "Unknown WaitingForWorker"],
    [
      "the callback fails",
      { delivery: [{ ...ORDERS, state: "Failing", lastError: "HTTP 500" }] },
      "Delivering",
      "False CallbackFailing",
    ],
    [
      "the outbox is at its limit, whatever the callback does",
      {
        source: source({ capture: { backlog: { maxBytes: 2 ** 24 } } }),
        outbox: { ...OUTBOX, reached: "Bytes" },
        delivery: [{ ...ORDERS, state: "Failing", lastError: "HTTP 500" }],
      },
      "Delivering",
      "False BacklogLimitReached",
    ],
    [
      "the outbox of a suspended source is at its limit",
      { source: source({ suspend: true }), outbox: { ...OUTBOX, reached: "Age" } },
      "Delivering",
      "False BacklogLimitReached",
    ],
    [
      "events were dropped lately",
      { outbox: { ...OUTBOX, losses: { ...OUTBOX.losses, lostAt: T1 } } },
      "Delivering",
      "False EventsLost",
    ],
    [
      "changes could not be captured lately",
      { outbox: { ...OUTBOX, losses: { ...OUTBOX.losses, skippedAt: T1, skippedChanges: 3 } } },
      "Delivering",
      "False ChangesSkipped",
    ],
    [
      "capture is paused",
      { outbox: { ...OUTBOX, losses: { ...OUTBOX.losses, pausedSince: T1, lostAt: T1 } } },
      "Delivering",
      "False CapturePaused",
    ],
  ];
  for (const [title, changes, type, expected] of cases) {
    test(`${title}: ${type} is ${expected}, and so Ready is False`, () => {
      const status = look(changes);
      assert.equal(shortOf(status, type), expected);
      assert.equal(conditionOf(status, "Ready").status, "False");
    });
  }

  test("F39 while a new pod waits for its image it is told that the old ones work on", () => {
    const rolling = { observedGeneration: 2, replicas: 3, updatedReplicas: 1, availableReplicas: 2 };
    const message = (status: object) =>
      conditionOf(look({ deployment: { ...DEPLOYMENT, status } }), "Deployed").message;
    assert.equal(
      message(rolling),
      "A rollout is under way: 2 worker pods are available, 1 not yet; those before work on meanwhile.",
    );
    assert.equal(message({ ...rolling, availableReplicas: 1 }), "1 of 2 worker pods are available.");
  });

  test("changes that could not be captured are counted, also when the last one is long ago", () => {
    const losses = { ...OUTBOX.losses, skippedChanges: 3 };
    const status = look({ outbox: { ...OUTBOX, losses } });
    assert.equal(status.delivery?.skippedChanges, 3);
    assert.equal(conditionOf(status, "Delivering").status, "True");
  });

  test("what a limit costs is told: who holds the outbox back, what was lost, since when nothing is captured", () => {
    const limited = source({ capture: { backlog: { maxBytes: 2 ** 24, onLimit: "Pause" } } });
    const losses = { ...OUTBOX.losses, pausedSince: T1 };
    const delivery = [{ ...ORDERS, lostEvents: 12 }];
    const status = look({ source: limited, delivery, outbox: { ...OUTBOX, reached: "Bytes", losses } });
    assert.equal(
      conditionOf(status, "Delivering").message,
      `Changes are not captured, and so lost, since ${T1}, until the outbox is down to half of its limit. The outbox takes more than maxBytes (16.0 MiB). Callback orders has not got the oldest events: let it take its events, or remove it from spec.callbacks.`,
    );
    assert.deepEqual(status.delivery, {
      pendingEvents: 4,
      oldestPendingTime: T0,
      deadLetters: 1,
      lostEvents: 12,
      outboxBytes: 2 ** 25,
      capturePausedSince: T1,
    });
    assert.equal(status.callbacks?.[0]?.lostEvents, 12);
    assert.deepEqual(
      transitions(look({}), status).map(({ type, reason }) => [type, reason]),
      [["Warning", "CapturePaused"]],
    );
  });

  test("Ready takes its reason from the first condition that is False, else from the first that is open", () => {
    assert.equal(
      shortOf(look({ credentials: problem("SecretNotFound"), deployment: problem("NameConflict") }), "Ready"),
      "False SecretNotFound",
    );
    assert.equal(
      shortOf(look({ build: null, deployment: problem("NameConflict") }), "Ready"),
      "False NameConflict",
    );
    assert.equal(shortOf(look({ delivery: [] }), "Ready"), "False WaitingForWorker");
  });

  test("suspended is no failure of anything else, and hides none", () => {
    const suspended = source({ suspend: true });
    assert.equal(shortOf(look({ source: suspended }), "Ready"), "False Suspended");
    const broken = look({ source: suspended, build: problem("PermissionDenied") });
    assert.equal(shortOf(broken, "Ready"), "False PermissionDenied");
    assert.equal(look({ source: suspended }).callbacks?.[0]?.state, "Suspended");
  });

  test("a suspended callback does not keep the source from being Ready", () => {
    const spec = source({
      callbacks: [
        { name: "orders", http: { uri: "https://a/" } },
        { name: "paused", suspend: true, http: { uri: "https://b/" } },
      ],
    });
    const status = look({
      source: spec,
      delivery: [ORDERS, { ...ORDERS, name: "paused", held: false, state: "Waiting" }],
    });
    assert.equal(shortOf(status, "Ready"), "True Ready");
    assert.deepEqual(
      status.callbacks?.map(({ state }) => state),
      ["Delivering", "Suspended"],
    );
  });

  test("lastTransitionTime moves only when the status of a condition does", () => {
    const first = look({ credentials: problem("SecretNotFound") });
    const second = look({ credentials: problem("SecretInvalid") }, first, T2);
    assert.equal(conditionOf(second, "CredentialsResolved").lastTransitionTime, T1);
    const third = look({}, second, T2);
    assert.equal(conditionOf(third, "CredentialsResolved").lastTransitionTime, T2);
    assert.equal(conditionOf(third, "CallbacksResolved").lastTransitionTime, T1);
  });

  test("keeps what was known when it cannot look", () => {
    const before = look({});
    const after = look({ database: problem("ConnectionFailed"), build: null, delivery: null }, before, T2);
    assert.deepEqual(after.build, before.build);
    assert.deepEqual(after.delivery, before.delivery);
    assert.deepEqual(after.callbacks, before.callbacks);
  });

  test("names the first 64 tables that failed", () => {
    const failures = Array.from({ length: 70 }, (_, index) => failure("LockTimeout", `s.t${index}`));
    const status = look({
      build: {
        tables: 0,
        failures,
        findings: failures,
        usable: true,
        manual: null,
        specHash: "h",
        schemaVersion: 5,
        serverVersion: "18",
        schemaChangeMode: "Poll",
        changed: false,
      },
    });
    assert.equal(status.build?.failedTables?.length, 64);
    assert.match(conditionOf(status, "Built").message, /s\.t0!.*69 more/);
  });

  test("at first: everything is unknown", () => {
    const { conditions = [] } = assessFirst(1, T1);
    assert.equal(conditions.length, 7);
    assert.ok(conditions.every(({ status, reason }) => status === "Unknown" && reason === "Pending"));
  });

  test("F53 of a spec that does not parse tells so, and keeps the rest", () => {
    const status = assessInvalid(4, "spec.callbacks: is required", look({}), T2);
    assert.equal(shortOf(status, "Ready"), "False InvalidSpec");
    assert.equal(shortOf(status, "Built"), "False InvalidSpec");
    assert.equal(status.build?.tables, 3);
    assert.equal(status.observedGeneration, 4);
  });

  test("of a deletion that waits, and of a source that is left alone, changes Ready only", () => {
    const before = look({});
    const others = before.conditions?.slice(1);
    const blocked = assessBlocked(3, "away", before, T2);
    assert.equal(shortOf(blocked, "Ready"), "False CleanupBlocked");
    assert.deepEqual(blocked.conditions?.slice(1), others);
    const disabled = assessDisabled(3, before, T2);
    assert.equal(shortOf(disabled, "Ready"), "Unknown ReconciliationDisabled");
    assert.deepEqual(disabled.conditions?.slice(1), others);
  });
});

describe("events", () => {
  const suspended = look({ source: source({ suspend: true }) });
  const failing = look({ credentials: problem("SecretNotFound") });
  const waiting = look({ delivery: [] });
  const cases: [string, PgEventSourceStatus | undefined, PgEventSourceStatus, string[]][] = [
    ["nothing new", look({}), look({}), []],
    ["a failure", waiting, failing, ["Warning SecretNotFound"]],
    ["another failure", failing, look({ credentials: problem("SecretInvalid") }), ["Warning SecretInvalid"]],
    [
      "the same failure with another text",
      failing,
      look({ credentials: { ...problem("SecretNotFound"), message: "x" } }),
      [],
    ],
    ["on the way", failing, waiting, []],
    ["ready", waiting, look({}), ["Normal Ready"]],
    ["suspended", look({}), suspended, ["Normal Suspended"]],
    ["resumed", suspended, waiting, ["Normal Resumed"]],
    ["resumed and failing", suspended, failing, ["Normal Resumed", "Warning SecretNotFound"]],
    ["left alone", look({}), assessDisabled(3, look({}), T2), ["Normal ReconciliationDisabled"]],
    ["blocked", look({}), assessBlocked(3, "away", look({}), T2), ["Warning CleanupBlocked"]],
    ["the first look", undefined, assessFirst(1, T1), []],
  ];
  for (const [title, before, after, expected] of cases) {
    test(`${title}: ${expected.join(", ") || "none"}`, () => {
      assert.deepEqual(
        transitions(before, after).map(({ type, reason }) => `${type} ${reason}`),
        expected,
      );
    });
  }
});

describe("the next look", () => {
  const at = Date.parse(T1);
  const next = (status: PgEventSourceStatus, nowMs = at, random = 0.5) =>
    nextLookMs(status, { resyncMs: 60_000, nowMs, random });

  test("is soon while a worker starts, and not for ever", () => {
    assert.equal(next(look({ delivery: [] })), 3000);
    assert.equal(next(look({ delivery: [] }), at + 61_000), 20_000);
  });

  test("is the resync for what is well or suspended, ± 10 %", () => {
    assert.equal(next(look({})), 60_000);
    assert.equal(next(look({ source: source({ suspend: true }) })), 60_000);
    assert.deepEqual(
      [0, 1].map((random) => Math.round(next(look({}), at, random))),
      [54_000, 66_000],
    );
  });

  test("comes earlier for what fails", () => {
    assert.equal(next(look({ credentials: problem("SecretNotFound") })), 20_000);
    assert.equal(
      nextLookMs(look({ build: problem("BuildFailed") }), { resyncMs: 5000, nowMs: at, random: 0.5 }),
      5000,
    );
  });

  test("at a blocked deletion comes soon, once just after the deadline, and then no more", () => {
    assert.equal(nextCleanupMs(T1, 600, at), 10_000);
    assert.equal(nextCleanupMs(T1, 600, at + 595_000), 6000);
    assert.equal(nextCleanupMs(T1, 600, at + 600_000), 0);
    assert.equal(nextCleanupMs(undefined, 600, at), 0);
  });
});
