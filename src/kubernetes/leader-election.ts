/**
 * Leader election by a Lease object, after the algorithm of client-go (tools/leaderelection): the record
 * is taken over only when it has not changed for a whole lease duration *as seen by our own monotonic
 * clock*; the times written in it are for people. So skewed clocks do no harm.
 *
 *   Follower ─ record unchanged for leaseDuration ─► write own name ─► Leader
 *   Leader ─ renewed every retryPeriod ─► Leader;  not renewed for renewDeadline ─► lost
 *
 * The election by itself does not fence: a leader that was frozen must ask `holdsSafely` before it
 * writes, and the database refuses a builder whose epoch is behind. The epoch is leaseTransitions plus
 * the second in which the API server made the Lease: a Lease that was deleted and made again counts from
 * zero, and its holders must not stay behind for ever.
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
  /** Told of each round in which the lease could not be read or written. */
  readonly onFailure?: (error: Error) => void;
}

interface Lease {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly resourceVersion?: string;
    readonly creationTimestamp?: string;
  };
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
  #reached = false;
  #renewedAtMs = 0;
  /** The record as last seen, and when we saw it first. */
  #observed: { record: string; atMs: number } = { record: "", atMs: 0 };

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
  }

  get isLeader(): boolean {
    return this.#leader;
  }

  /** The lease was read or written once: this process may take part. */
  get reached(): boolean {
    return this.#reached;
  }

  /** Surely still the leader: the last renewal is younger than the renew deadline. */
  get holdsSafely(): boolean {
    return this.#leader && performance.now() - this.#renewedAtMs < this.#options.renewDeadlineSeconds * 1000;
  }

  /** Takes part until the signal, then gives the lease back. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startedMs = performance.now();
      const held = await this.#round(signal);
      if (signal.aborted) break;
      if (held) this.#renewedAtMs = startedMs;
      if (this.#doubtful()) return this.#lost();
      const waitMs = this.#options.retryPeriodSeconds * 1000 * (1 + Math.random() * 0.2);
      await sleep(Math.min(waitMs, this.#remainingMs()), undefined, { signal }).catch(() => undefined);
      if (this.#doubtful()) return this.#lost();
    }
    if (this.#leader) await this.#release(this.#limited()).catch(() => undefined);
    this.#leader = false;
  }

  /** @returns true when the lease is ours now; false when it is another's, or could not be reached */
  async #round(signal: AbortSignal): Promise<boolean> {
    try {
      const held = await this.#tryToHold(this.#limited(signal));
      this.#reached = true;
      return held;
    } catch (error) {
      if (isConflict(error))
        this.#reached = true; // somebody was faster
      else if (!signal.aborted) this.#options.onFailure?.(error as Error);
      return false;
    }
  }

  /** A request that hangs must leave time for another, and none outlives the leadership it is to save. */
  #limited(signal?: AbortSignal): AbortSignal {
    const half = (this.#options.renewDeadlineSeconds * 1000) / 2;
    const timeout = AbortSignal.timeout(Math.ceil(Math.min(half, this.#remainingMs())));
    return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  }

  /** How long the leadership lasts without a renewal; without end for who does not lead. */
  #remainingMs(): number {
    if (!this.#leader) return Number.POSITIVE_INFINITY;
    const lastsMs = this.#options.renewDeadlineSeconds * 1000;
    return Math.max(0, this.#renewedAtMs + lastsMs - performance.now());
  }

  #doubtful(): boolean {
    return this.#leader && !this.holdsSafely;
  }

  #lost(): void {
    this.#leader = false;
    this.#options.onLost();
  }

  async #tryToHold(signal: AbortSignal): Promise<boolean> {
    const { client, namespace, name } = this.#options;
    const options = { signal, urgent: true };
    const lease = await client.get<Lease>(this.#path(), options).catch((error: unknown) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    const now = microTime(new Date());
    if (lease === null) {
      const body = this.#record({ metadata: { name, namespace }, spec: {} }, now, now, 0);
      this.#elected(
        await client.create<Lease>(collectionPath(LEASE_API, namespace, "leases"), body, options),
      );
      return true;
    }
    if (!this.#mayTake(lease)) return false;
    const { leaseTransitions = 0, acquireTime = now } = lease.spec;
    if (this.#leader) {
      await client.replace(this.#path(), this.#record(lease, acquireTime, now, leaseTransitions), options);
    } else {
      const body = this.#record(lease, now, now, leaseTransitions + 1);
      this.#elected(await client.replace<Lease>(this.#path(), body, options));
    }
    return true;
  }

  /** Ours, nobody's, or not changed for so long that its holder is taken for gone. */
  #mayTake({ spec }: Lease): boolean {
    const { identity } = this.#options;
    const { holderIdentity = "", leaseDurationSeconds = this.#options.leaseDurationSeconds } = spec;
    const record = JSON.stringify(spec);
    if (record !== this.#observed.record) this.#observed = { record, atMs: performance.now() };
    if (holderIdentity === identity) return true;
    if (this.#leader) {
      this.#renewedAtMs = Number.NEGATIVE_INFINITY; // taken from us: lost at once
      return false;
    }
    return holderIdentity === "" || performance.now() - this.#observed.atMs > leaseDurationSeconds * 1000;
  }

  #path(): string {
    return objectPath(LEASE_API, this.#options.namespace, "leases", this.#options.name);
  }

  #elected({ metadata, spec }: Lease): void {
    this.#leader = true;
    this.#renewedAtMs = performance.now();
    const madeAtSeconds = Math.floor(Date.parse(metadata.creationTimestamp ?? "") / 1000);
    this.#options.onElected(madeAtSeconds + (spec.leaseTransitions ?? 0));
  }

  #record(lease: Lease, acquireTime: string, renewTime: string, leaseTransitions: number): unknown {
    const { namespace, name, resourceVersion } = lease.metadata;
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
  async #release(signal: AbortSignal): Promise<void> {
    const { client, identity } = this.#options;
    const lease = await client.get<Lease>(this.#path(), { signal, urgent: true });
    if (lease.spec.holderIdentity !== identity) return;
    const spec = {
      ...lease.spec,
      holderIdentity: "",
      leaseDurationSeconds: 1,
      renewTime: microTime(new Date()),
    };
    const body = { ...lease, apiVersion: "coordination.k8s.io/v1", kind: "Lease", spec };
    await client.replace(this.#path(), body, { signal, urgent: true });
  }
}

/** RFC 3339 with exactly six fractional digits: the API server takes no other MicroTime. */
export function microTime(date: Date): string {
  return date.toISOString().replace(/\.(\d{3})Z$/, ".$1000Z");
}
