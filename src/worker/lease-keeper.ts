/**
 * Keeps this worker's leases: takes its share of the lanes of each callback, renews what it holds, gives
 * lanes away to workers that have less, and starts and stops the relays accordingly. One round every
 * ROUND_MS, or when another worker says that lanes changed; a lease lasts LEASE_SECONDS.
 *
 * A callback has one relay here, whatever it holds of its lanes. When that changes the relay drains, which
 * leaves a position without gaps, and another one begins there.
 *
 * Trust: a lease surely holds for LEASE_SECONDS after the moment a renewal was *sent*; the relay stops
 * sending TRUST_MARGIN_MS before that, measured on this machine's monotonic clock, so that a process
 * that was frozen or cut off does not send beside its successor.
 */
import type { CallbackSpec } from "../core/api/callback.ts";
import { lanesToShare, planLanes } from "../core/delivery/lanes.ts";
import { describeError } from "../core/errors.ts";
import type { CallbackLeases, Holder, HolderSession, LaneView, Lease } from "../postgres/callback-lease.ts";
import type { Logger } from "../runtime/log.ts";
import { pause } from "./pause.ts";
import type { Relay } from "./relay.ts";

const LEASE_SECONDS = 10;
const TRUST_MARGIN_MS = 2000;
const ROUND_MS = 2500;
/** Milliseconds beyond the time limit of an attempt that a relay has to drain when its lanes change. */
const CHANGE_MARGIN_MS = 5000;

export interface LeaseKeeperOptions {
  readonly leases: CallbackLeases;
  /** Callbacks to relay; suspended ones are not among them. */
  readonly callbacks: readonly CallbackSpec[];
  readonly holderId: string;
  readonly session: () => HolderSession | null;
  readonly startRelay: (leases: readonly Lease[], trustedUntilMs: number) => Promise<Relay>;
  /** Told after every round: whether the database answered. */
  readonly onRound: (error: unknown | null) => void;
  readonly log: Logger;
}

interface Holding {
  leases: readonly Lease[];
  relay: Relay | null;
  /** Its relay is being replaced. */
  changing: Promise<void> | null;
  /** What was last noted in the database. */
  state: string;
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #holdings = new Map<string, Holding>();
  /** Callbacks whose relay could not be started: the others need not count on this worker. */
  readonly #unable = new Set<string>();
  #nudged = new AbortController();
  #draining = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  /** The relays this worker runs now. */
  get relays(): readonly Relay[] {
    return [...this.#holdings.values()].flatMap(({ relay }) => relay ?? []);
  }

  /** Lanes are to be had, or wanted: looks at once. */
  nudge(): void {
    this.#nudged.abort();
  }

  /** Runs rounds until the signal; the relays go on until `drain`. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#nudged = new AbortController();
      try {
        await this.#round();
        this.#options.onRound(null);
      } catch (error) {
        this.#options.onRound(error);
      }
      await this.#dropDistrusted();
      await pause(ROUND_MS * (0.9 + Math.random() * 0.2), AbortSignal.any([signal, this.#nudged.signal]));
    }
  }

  /** Lets every relay finish what is under way, and gives the leases back. */
  async drain(timeoutMs: number): Promise<void> {
    const { leases, holderId, log } = this.#options;
    this.#draining = true;
    const warn = (error: unknown) =>
      log.warn({ sqlstate: (error as { code?: string }).code }, "lease not given back; it ends by itself");
    const renewal = setInterval(() => void this.#renew().catch(() => undefined), ROUND_MS);
    await leases.withdraw(holderId).catch(warn);
    await Promise.all(
      [...this.#holdings].map(async ([callback, holding]) => {
        await holding.changing;
        await holding.relay?.drain(timeoutMs);
        this.#holdings.delete(callback); // before the leases go: a renewal under way must not take them for lost
        for (const lease of holding.leases) await leases.release(lease).catch(warn);
      }),
    );
    clearInterval(renewal);
    await leases.tellOthers().catch(warn);
  }

  async #round(): Promise<void> {
    const { callbacks, leases } = this.#options;
    for (const [callback, holding] of this.#holdings)
      if (holding.relay?.lost) await this.#drop(callback, holding);
    await this.#renew();
    const names = callbacks.map(({ name }) => name);
    if (names.length === 0) return;
    const able = names.filter((name) => !this.#unable.has(name));
    if (await leases.announce(able, this.#holder())) await leases.tellOthers();
    const views = await leases.look(names);
    for (const spec of callbacks) {
      const view = views.get(spec.name);
      if (view !== undefined && !this.#holdings.get(spec.name)?.changing) await this.#balance(spec, view);
    }
    for (const [callback, holding] of this.#holdings) {
      await this.#noteState(holding);
      if (holding.leases.some(({ part }) => part !== 0)) await leases.followLanes(callback);
    }
  }

  /** Takes lanes or gives some away, as all workers together want it. */
  async #balance(spec: CallbackSpec, view: LaneView): Promise<void> {
    const { leases, holderId } = this.#options;
    const holding = this.#holdings.get(spec.name);
    const mine = new Set(holding?.leases.map(({ part }) => part));
    // What this worker does not know of is free: it held that before it lost sight of it.
    const parts = view.parts.map((one) =>
      one.holder === holderId && !mine.has(one.part) ? { ...one, holder: null } : one,
    );
    const { take, give } = planLanes(spec.name, parts, view.workers, holderId, lanesToShare(spec.ordering));
    let taken = false;
    for (const { part, lanes } of take)
      taken = (await leases.take(spec.name, part, lanes, this.#holder())) || taken;
    if (taken) return this.#change(spec, async () => undefined);
    if (holding === undefined) return;
    if (give.length > 0) {
      return this.#change(spec, async () => {
        for (const { part, lanes } of give) {
          const lease = holding.leases.find((one) => one.part === part);
          if (lease !== undefined) await leases.give(lease, lanes);
        }
        await leases.tellOthers();
      });
    }
    if (holding.relay?.converged) this.#change(spec, () => leases.merge(holding.leases));
  }

  /** Replaces the relay of a callback; `between` runs when the old one has drained. */
  #change(spec: CallbackSpec, between: () => Promise<void>): void {
    const holding = this.#holdings.get(spec.name) ?? { leases: [], relay: null, changing: null, state: "" };
    this.#holdings.set(spec.name, holding);
    const change = async () => {
      holding.leases = await this.#options.leases.held(spec.name, this.#options.holderId); // renewed from now on
      await holding.relay?.drain(spec.delivery.timeoutSeconds * 1000 + CHANGE_MARGIN_MS);
      holding.relay = null;
      await between();
      if (this.#draining || this.#holdings.get(spec.name) !== holding) return;
      await this.#start(spec.name, holding);
    };
    holding.changing = change()
      .catch(async (error: unknown) => {
        this.#options.onRound(error);
        await this.#drop(spec.name, holding);
      })
      .finally(() => {
        holding.changing = null;
      });
  }

  async #start(callback: string, holding: Holding): Promise<void> {
    const { leases, log, startRelay, holderId } = this.#options;
    const sentMs = performance.now();
    const held = await leases.held(callback, holderId);
    holding.leases = await leases.renew(held, this.#holder());
    if (holding.leases.length < held.length || held.length === 0) return this.#drop(callback, holding);
    try {
      holding.relay = await startRelay(holding.leases, trustedUntil(sentMs));
      this.#unable.delete(callback);
      const { lanes } = holding.relay.state;
      log.info({ callback, term: holding.leases[0]?.term, lanes }, "relaying callback");
      holding.state = "";
      await this.#noteState(holding);
    } catch (error) {
      this.#unable.add(callback);
      log.error({ callback, error: describeError(error) }, "callback cannot be relayed, trying again");
      for (const lease of holding.leases) {
        await leases.setState(lease, "Failing", describeError(error));
        await leases.release(lease);
      }
      this.#holdings.delete(callback);
    }
  }

  async #renew(): Promise<void> {
    const held = [...this.#holdings].map(([callback, holding]) => ({
      callback,
      holding,
      leases: holding.leases,
    }));
    const sentMs = performance.now();
    const kept = new Set(
      await this.#options.leases.renew(
        held.flatMap(({ leases }) => leases),
        this.#holder(),
      ),
    );
    for (const { callback, holding, leases } of held) {
      // A relay that began meanwhile has leases of its own, renewed when it began.
      if (this.#holdings.get(callback) !== holding || holding.leases !== leases) continue;
      if (leases.every((lease) => kept.has(lease))) holding.relay?.extendTrust(trustedUntil(sentMs));
      else if (holding.changing === null) await this.#drop(callback, holding);
    }
  }

  /** A relay whose lease may have ended unnoticed sends nothing any more; its attempts are cut off. */
  async #dropDistrusted(): Promise<void> {
    const nowMs = performance.now();
    for (const [callback, holding] of this.#holdings) {
      if (holding.relay !== null && nowMs > holding.relay.trustedUntilMs) await this.#drop(callback, holding);
    }
  }

  /** Stops the relay of a callback at once. What is still held of its leases is found free in the next round. */
  async #drop(callback: string, holding: Holding): Promise<void> {
    if (this.#holdings.get(callback) !== holding) return;
    this.#options.log.warn({ callback }, "relay stopped: its lease is lost or may be");
    this.#holdings.delete(callback);
    await holding.relay?.stop();
  }

  /** Writes the state of a callback when it changed, for status. */
  async #noteState(holding: Holding): Promise<void> {
    if (holding.relay === null) return;
    const { failing, lastError } = holding.relay.state;
    const state = failing ? "Failing" : "Delivering";
    const text = `${state} ${lastError ?? ""}`;
    if (holding.state === text) return;
    for (const lease of holding.leases) await this.#options.leases.setState(lease, state, lastError);
    holding.state = text;
  }

  #holder(): Holder {
    return { id: this.#options.holderId, session: this.#options.session(), leaseSeconds: LEASE_SECONDS };
  }
}

function trustedUntil(sentMs: number): number {
  return sentMs + LEASE_SECONDS * 1000 - TRUST_MARGIN_MS;
}
