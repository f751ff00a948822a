/** What a reconcile works with: the API server, the copies of objects, and how this operator is set. */
import { API_VERSION, KIND } from "../core/api/source.ts";
import type { Problem } from "../core/reconcile/observed.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";
import type { RefusedLogin } from "../core/settings/refused-login.ts";
import type { KubernetesClient, KubernetesObject } from "../kubernetes/client.ts";
import type { EventRecorder, RecordedEvent } from "../kubernetes/event-recorder.ts";
import type { ResourceNames } from "../kubernetes/resource-names.ts";
import type { Logger } from "../runtime/log.ts";
import type { OperatorMetrics } from "./metrics.ts";

export const FIELD_MANAGER = "pgevents-operator";
export const STATUS_MANAGER = "pgevents-operator-status";
export const FINALIZER = "pgevents.dev/capture";
export const SOURCES_API = "apis/pgevents.dev/v1alpha1";
export const DEPLOYMENTS_API = "apis/apps/v1";

export interface OperatorOptions {
  readonly workerImage: string;
  readonly imagePullPolicy: string;
  readonly requireSecretLabel: boolean;
  /** Namespaces besides a source's own whose objects its callbacks may refer to. */
  readonly callbackNamespaces: readonly string[];
  /** What https:// callbacks of every worker go through. */
  readonly proxy?: ProxySettings | undefined;
  /** Seconds between looks at a source that is well, ± 10 %. */
  readonly resyncSeconds: number;
  readonly version: string;
}

export interface World {
  readonly client: KubernetesClient;
  readonly recorder: EventRecorder;
  readonly log: Logger;
  readonly metrics: OperatorMetrics;
  readonly options: OperatorOptions;
  /** The copies kept by list and watch, by `namespace/name`. */
  readonly source: (key: string) => KubernetesObject | undefined;
  readonly deployment: (key: string) => KubernetesObject | undefined;
  /** Puts what a write gave back in place of the copy, unless that is as new. */
  readonly remember: (written: KubernetesObject) => void;
  /** Fingerprint of the Deployment last applied, by the source's `namespace/name`: what is wanted no longer must go. */
  readonly applied: Map<string, string>;
  /** When the status of a source was last written, monotonic milliseconds. */
  readonly written: Map<string, number>;
  /** Logins that databases refused, by the source's `namespace/name`. */
  readonly refusals: Map<string, RefusedLogin<Problem>>;
  readonly plurals: ResourceNames;
  /** The leader's epoch. */
  readonly epoch: () => number;
  /** False once leadership may be lost: nothing may be written any more. */
  readonly mayWrite: () => boolean;
}

export class LeadershipInDoubt extends Error {}

/** @throws LeadershipInDoubt just before a write that might not be ours to make */
export function assertMayWrite(world: World): void {
  if (!world.mayWrite()) throw new LeadershipInDoubt("the lease was not renewed in time");
}

/** Tells of a change that a user may want to know, once. */
export function tell(world: World, object: KubernetesObject, event: RecordedEvent): void {
  void world.recorder.record({ apiVersion: API_VERSION, kind: KIND, ...object }, event);
}
