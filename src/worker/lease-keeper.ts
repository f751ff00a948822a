/**
 * Keeps this worker's leases: takes callbacks that nobody holds, renews what it holds, and starts and
 * stops the relays accordingly. One round every ROUND_MS; a lease lasts LEASE_SECONDS.
 *
 * Trust: a lease surely holds for LEASE_SECONDS after the moment a renewal was *sent*; the relay stops
 * sending TRUST_MARGIN_MS before that, measured on this machine's monotonic clock, so that a process
 * that was frozen or cut off does not send beside its successor.
 */
import { describeError } from "../core/errors.ts";
import type { AcquiredLease, CallbackLeases, Holder, HolderSession } from "../postgres/callback-lease.ts";
import type { Logger } from "../runtime/log.ts";
import { pause } from "./pause.ts";
import type { Relay } from "./relay.ts";

const LEASE_SECONDS = 10;
const TRUST_MARGIN_MS = 2000;
const ROUND_MS = 2500;

export interface LeaseKeeperOptions {
  readonly leases: CallbackLeases;
  /** Callbacks to relay; suspended ones are not among them. */
  readonly callbacks: readonly string[];
  readonly holderId: string;
  readonly session: () => HolderSession | null;
  readonly startRelay: (lease: AcquiredLease, trustedUntilMs: number) => Relay;
  /** Told after every round: whether the database answered. */
  readonly onRound: (error: unknown | null) => void;
  readonly log: Logger;
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #relays = new Map<string, Relay>();
  #states = new Map<string, string>();

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** The relays this worker runs now. */
  get relays(): readonly Relay[] {
    return [...this.#relays.values()];
  }

  /** Runs rounds until the signal; the relays go on until `drain`. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#round();
        this.#options.onRound(null);
      } catch (error) {
        this.#options.onRound(error);
      }
      await this.#dropDistrusted();
      await pause(ROUND_MS * (0.9 + Math.random() * 0.2), signal);
    }
  }

  /** Lets every relay finish what is under way, and gives the leases back. */
  async drain(timeoutMs: number): Promise<void> {
    const renewal = setInterval(() => void this.#renew().catch(() => undefined), ROUND_MS);
    await Promise.all(this.relays.map((relay) => this.#handOver(relay, timeoutMs)));
    clearInterval(renewal);
  }

  async #handOver(relay: Relay, timeoutMs: number): Promise<void> {
    await relay.drain(timeoutMs);
    this.#relays.delete(relay.callback); // before the lease goes: a renewal under way must not take it for lost
    await this.#options.leases.release(relay.callback, relay.term).catch((error: unknown) => {
      const sqlstate = (error as { code?: string }).code;
      this.#options.log.warn(
        { callback: relay.callback, sqlstate },
        "lease not given back; it ends by itself",
      );
    });
  }

  async #round(): Promise<void> {
    for (const relay of this.relays.filter((one) => one.lost)) await this.#drop(relay);
    await this.#renew();
    await this.#acquire();
    await this.#noteStates();
  }

  async #renew(): Promise<void> {
    const held = this.relays;
    if (held.length === 0) return;
    const sentMs = performance.now();
    const kept = new Set(await this.#options.leases.renew(held, this.#holder()));
    for (const relay of held) {
      if (kept.has(relay.callback)) relay.extendTrust(trustedUntil(sentMs));
      else if (this.#relays.get(relay.callback) === relay) await this.#drop(relay);
    }
  }

  async #acquire(): Promise<void> {
    const wanted = this.#options.callbacks.filter((callback) => !this.#relays.has(callback));
    if (wanted.length === 0) return;
    const sentMs = performance.now();
    for (const lease of await this.#options.leases.acquire(wanted, this.#holder())) {
      await this.#start(lease, trustedUntil(sentMs));
    }
  }

  async #start(lease: AcquiredLease, trustedUntilMs: number): Promise<void> {
    const { leases, log, startRelay } = this.#options;
    try {
      this.#relays.set(lease.callback, startRelay(lease, trustedUntilMs));
      log.info({ callback: lease.callback, term: lease.term }, "relaying callback");
    } catch (error) {
      log.error(
        { callback: lease.callback, error: describeError(error) },
        "callback cannot be relayed, trying again",
      );
      await leases.setState(lease.callback, lease.term, "Failing", describeError(error));
      await leases.release(lease.callback, lease.term);
    }
  }

  /** A relay whose lease may have ended unnoticed sends nothing any more; its attempts are cut off. */
  async #dropDistrusted(): Promise<void> {
    const nowMs = performance.now();
    for (const relay of this.relays) {
      if (nowMs > relay.trustedUntilMs) await this.#drop(relay);
    }
  }

  async #drop(relay: Relay): Promise<void> {
    this.#options.log.warn({ callback: relay.callback }, "relay stopped: its lease is lost or may be");
    this.#relays.delete(relay.callback);
    this.#states.delete(relay.callback);
    await relay.stop();
  }

  /** Writes the state of a callback when it changed, for status. */
  async #noteStates(): Promise<void> {
    for (const relay of this.relays) {
      const { failing, lastError } = relay.state;
      const state = failing ? "Failing" : "Delivering";
      const text = `${state} ${lastError ?? ""}`;
      if (this.#states.get(relay.callback) === text) continue;
      await this.#options.leases.setState(relay.callback, relay.term, state, lastError);
      this.#states.set(relay.callback, text);
    }
  }

  #holder(): Holder {
    return { id: this.#options.holderId, session: this.#options.session(), leaseSeconds: LEASE_SECONDS };
  }
}

function trustedUntil(sentMs: number): number {
  return sentMs + LEASE_SECONDS * 1000 - TRUST_MARGIN_MS;
}
