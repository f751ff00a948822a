/**
 * Condition types, when each is True, and every reason. The same words are the reasons of Kubernetes
 * events, which have some more of their own. `Ready` is derived from the others and never set by hand.
 */
export const CONDITION_TYPES = {
  Ready: "Every other condition is True: events flow from the database to every callback.",
  CredentialsResolved: "Every Secret the spec names exists and holds the keys that are needed.",
  DatabaseReachable: "The operator can log in to the database and the server accepts writes.",
  Built: "Capture in the database matches the spec, for every table.",
  CallbacksResolved: "Every callback has an address that may be called.",
  Deployed: "The worker Deployment exists as wanted and all its pods are available.",
  Delivering:
    "A worker holds every callback, none of them fails to deliver, and the outbox is within its limits.",
} as const;

export type ConditionType = keyof typeof CONDITION_TYPES;

export const REASONS = {
  // Good news.
  Ready: "All conditions are True.",
  Resolved: "Everything that is referred to was found.",
  Connected: "The database accepted the connection.",
  Built: "The database has the capture that the spec asks for.",
  Available: "All worker pods are available.",
  Delivering: "Workers deliver to every callback.",
  // Not known yet, or not wanted.
  Pending: "Not looked at yet, because an earlier condition is not True.",
  Building: "A build is under way; the message says how far it is.",
  ManualInstallPending:
    "`spec.capture.install` is Manual, and the SQL in the ConfigMap that the message names has to be run.",
  DeploymentUpdating: "A rollout of the worker Deployment is under way.",
  WaitingForWorker: "No worker has taken over a callback yet.",
  Suspended: "`spec.suspend` is true: capture goes on, delivery waits.",
  ReconciliationDisabled: "The annotation pgevents.dev/reconciliation is `disabled`.",
  // Failures.
  InvalidSpec: "The stored PgEventSource does not pass validation.",
  SecretNotFound: "A Secret that the spec names does not exist.",
  SecretInvalid: "A Secret lacks a key, or the value cannot be used.",
  SecretNotAllowed:
    'A Secret whose value leaves the cluster, or is in reach of a module, lacks the label pgevents.dev/allow: "true".',
  ConnectionFailed: "The database cannot be reached.",
  AuthenticationFailed: "The database refused the role or its password.",
  DatabaseReadOnly: "The server is a replica or read-only.",
  PermissionDenied: "The role lacks a right in the database.",
  TableNotFound: "A table that the spec names does not exist.",
  ColumnNotFound: "A column that the spec names for a table does not exist.",
  ConditionInvalid: "PostgreSQL does not take a condition (`when`) of the spec for its table.",
  UnsafeCast:
    "A table has a column of a type that a function of another role turns into JSON; it is not captured.",
  TableNotSupported: "A relation that the spec names cannot be captured.",
  LockTimeout: "A table was locked by others for longer than `lockTimeoutSeconds`.",
  OwnershipConflict: "Another PgEventSource owns this capture schema.",
  UnsupportedServer: "The server is older than PostgreSQL 14.",
  BuildFailed: "The database refused a statement of the build.",
  CallbackNotFound: "What a callback refers to does not exist, or has no address yet.",
  CallbackForbidden: "What a callback refers to may not be read, or is in a namespace that is not allowed.",
  NameConflict: "A Deployment with the worker's name exists and belongs to somebody else.",
  DeploymentUnavailable: "Worker pods are not available.",
  DeploymentFailed: "The API server refused the worker Deployment.",
  CallbackFailing: "A callback fails to take events; they are kept and tried again.",
  BacklogLimitReached: "The outbox is beyond a limit of `capture.backlog`.",
  EventsLost: "Events were lost within the last hour, as `capture.backlog.onLimit` wants it at a limit.",
  ChangesSkipped:
    "Changes could not be captured within the last hour, and the writes went on, as `capture.onError` wants it.",
  CapturePaused: "Changes are not captured, as `capture.backlog.onLimit` wants it at a limit.",
  CleanupBlocked: "Capture cannot be removed from the database yet.",
} as const;

export type Reason = keyof typeof REASONS;

/** What events tell of besides: something was done. */
export const EVENT_REASONS = {
  SchemaChanged:
    "Capture was built anew, as tables had changed, or others had changed capture; then the message names what.",
  DeploymentCreated: "The worker Deployment was made.",
  DeploymentUpdated: "The worker Deployment was changed, healed or made anew.",
  SecretRotated: "Workers are replaced, as a value of a Secret has changed.",
  Resumed: "`spec.suspend` is false again.",
  CleanedUp: "Capture was removed from the database of a source that was deleted.",
  CaptureLeft: "A source was deleted, and its capture is left, as `spec.capture.install` is Manual.",
  CaptureObjectsOrphaned:
    "A source was deleted, and its capture could not be removed; docs/operations.md says how to do it by hand.",
} as const;

export type EventReason = Reason | keyof typeof EVENT_REASONS;

export type ConditionStatus = "True" | "False" | "Unknown";

/** A condition of `status.conditions`, in the shape of metav1.Condition. */
export interface Condition {
  type: ConditionType;
  status: ConditionStatus;
  reason: Reason;
  message: string;
  observedGeneration: number;
  /** RFC 3339, seconds; moves only when `status` flips. */
  lastTransitionTime: string;
}
