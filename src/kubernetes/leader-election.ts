/**
 * Leader election by a Lease object, after the algorithm of client-go (tools/leaderelection): the record
 * is taken over only when it has not changed for a whole lease duration *as seen by our own monotonic
 * clock*; the times written in it are for people. So skewed clocks do no harm.
 *
 *   Follower ─ record unchanged for leaseDuration ─► write own name ─► Leader
 *   Leader ─ renewed every retryPeriod ─► Leader;  not renewed for renewDeadline ─► lost
 *
 * The election by itself does not fence: a leader that was frozen must ask `holdsSafely` before it
 * writes, and the database refuses a builder whose epoch (leaseTransitions) is behind.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isConflict, isNotFound } from "./api-error.ts";
import type { KubernetesClient } from "./client.ts";
import { collectionPath, objectPath } from "./paths.ts";

const LEASE_API = "apis/coordination.k8s.io/v1";

export interface LeaderElectionOptions {
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly name: string;
  /** Unique for this process: hostname_uuid. */
  readonly identity: string;
  readonly leaseDurationSeconds: number;
  readonly renewDeadlineSeconds: number;
  readonly retryPeriodSeconds: number;
  /** Told once the lease is ours, with an epoch that grows with each change of leader. */
  readonly onElected: (epoch: number) => void;
  /** Told when it is ours no longer; the process must end at once. */
  readonly onLost: () => void;
}

interface Lease {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion?: string };
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  #leader = false;
  #renewedAtMs = 0;
  /** The record as last seen, and when we saw it first. */
  #observed: { record: string; atMs: number } = { record: "", atMs: 0 };

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
  }

  get isLeader(): boolean {
    return this.#leader;
  }

  /** Surely still the leader: the last renewal is younger than the renew deadline. */
  get holdsSafely(): boolean {
    return this.#leader && performance.now() - this.#renewedAtMs < this.#options.renewDeadlineSeconds * 1000;
  }

  /** Takes part until the signal, then gives the lease back. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startedMs = performance.now();
      const held = await this.#tryToHold(signal).catch(() => false);
      if (signal.aborted) break;
      if (held) this.#renewedAtMs = startedMs;
      else if (this.#leader && !this.holdsSafely) {
        this.#leader = false;
        this.#options.onLost();
        return;
      }
      const waitMs = this.#options.retryPeriodSeconds * 1000 * (1 + Math.random() * 0.2);
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
    if (this.#leader) await this.#release().catch(() => undefined);
    this.#leader = false;
  }

  /** One round. @returns true when the lease is ours now; false when another holds it, or on a conflict */
  async #tryToHold(signal: AbortSignal): Promise<boolean> {
    const { client, namespace, name, identity } = this.#options;
    const path = objectPath(LEASE_API, namespace, "leases", name);
    const lease = await client.get<Lease>(path, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    const now = microTime(new Date());
    if (lease === null) {
      const body = this.#record({ metadata: { name, namespace }, spec: {} }, now, now, 1);
      await client.create(collectionPath(LEASE_API, namespace, "leases"), body, { signal });
      this.#elected(1);
      return true;
    }
    const record = JSON.stringify(lease.spec);
    if (record !== this.#observed.record) this.#observed = { record, atMs: performance.now() };
    const {
      holderIdentity = "",
      leaseDurationSeconds = this.#options.leaseDurationSeconds,
      leaseTransitions = 0,
    } = lease.spec;
    const mine = holderIdentity === identity;
    const expired = performance.now() - this.#observed.atMs > leaseDurationSeconds * 1000;
    if (!mine && this.#leader) this.#renewedAtMs = Number.NEGATIVE_INFINITY; // taken from us: lost at once
    if (!mine && holderIdentity !== "" && !expired) return false;
    const transitions = mine && this.#leader ? leaseTransitions : leaseTransitions + 1;
    const acquired = mine && this.#leader ? (lease.spec.acquireTime ?? now) : now;
    try {
      await client.replace(path, this.#record(lease, acquired, now, transitions), { signal });
    } catch (error) {
      if (isConflict(error)) return false; // somebody was faster
      throw error;
    }
    if (!this.#leader) this.#elected(transitions);
    return true;
  }

  #elected(epoch: number): void {
    this.#leader = true;
    this.#renewedAtMs = performance.now();
    this.#options.onElected(epoch);
  }

  #record(lease: Lease, acquireTime: string, renewTime: string, leaseTransitions: number): unknown {
    const { namespace, name, resourceVersion } = lease.metadata as Lease["metadata"] & {
      resourceVersion?: string;
    };
    return {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { namespace, name, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
      spec: {
        holderIdentity: this.#options.identity,
        leaseDurationSeconds: this.#options.leaseDurationSeconds,
        acquireTime,
        renewTime,
        leaseTransitions,
      },
    };
  }

  /** Empties the holder, so that the next leader need not wait. */
  async #release(): Promise<void> {
    const { client, namespace, name, identity } = this.#options;
    const path = objectPath(LEASE_API, namespace, "leases", name);
    const lease = await client.get<Lease>(path);
    if (lease.spec.holderIdentity !== identity) return;
    await client.replace(path, {
      ...lease,
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      spec: { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime: microTime(new Date()) },
    });
  }
}

/** RFC 3339 with exactly six fractional digits: the API server takes no other MicroTime. */
export function microTime(date: Date): string {
  return date.toISOString().replace(/\.(\d{3})Z$/, ".$1000Z");
}
