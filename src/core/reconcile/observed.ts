/** What a reconcile finds out about the world; the status is made of it. */
import type { Reason } from "../api/conditions.ts";
import type { PgEventSource } from "../api/source.ts";
import type { Backlog, Losses, ReachedLimit } from "../capture/backlog.ts";
import type { Failure, Finding } from "../capture/findings.ts";
import type { ObservedAddresses } from "./addresses.ts";

/** The outcome of a step: fine, or why not. */
export type Step = { readonly ok: true; readonly message: string } | Problem;

export interface Problem {
  readonly ok: false;
  readonly reason: Reason;
  readonly message: string;
}

export interface ObservedBuild {
  readonly tables: number;
  readonly failures: readonly Failure[];
  /** The worst first. */
  readonly findings: readonly Finding[];
  /** With `install: Manual`: what waits for somebody to run it. */
  readonly usable: boolean;
  readonly manual: { readonly steps: number; readonly configMap: string } | null;
  readonly specHash: string;
  readonly schemaVersion: number;
  readonly serverVersion: string;
  readonly schemaChangeMode: string;
  readonly changed: boolean;
}

export interface ObservedDeployment {
  readonly metadata: { readonly name: string; readonly generation?: number };
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly readyReplicas?: number;
    readonly availableReplicas?: number;
    readonly unavailableReplicas?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
      readonly lastTransitionTime?: string;
    }[];
  };
}

export interface ObservedDelivery {
  readonly name: string;
  readonly held: boolean;
  readonly state: string;
  readonly lastError: string | null;
  readonly pending: number;
  readonly oldestPendingTime: string | null;
  readonly deadLetters: number;
  readonly lostEvents: number;
}

export interface ObservedOutbox {
  readonly backlog: Backlog;
  readonly reached: ReachedLimit | null;
  readonly losses: Losses;
}

/** Everything a reconcile found out; null: not looked at, because something before it failed. */
export interface Observed {
  readonly source: PgEventSource;
  readonly credentials: Step;
  readonly database: Step | null;
  readonly build: ObservedBuild | Problem | null;
  readonly deployment: ObservedDeployment | Problem | null;
  readonly delivery: readonly ObservedDelivery[] | null;
  readonly outbox?: ObservedOutbox | null | undefined;
  readonly addresses?: ObservedAddresses | null | undefined;
}
