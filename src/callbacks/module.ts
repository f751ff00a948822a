/**
 * Delivery to functions of the user's own module. All calls share one thread, until one of them ends it or
 * does not come back: then each event that was in it is suspect, is tried again in a thread of its own, one
 * after the other, and only what happens there counts against it. A bad event so costs its neighbours one
 * interruption, its later attempts cost them nothing, and none of them becomes a dead letter in its place.
 */
import type { CallbackSpec, ModuleSpec } from "../core/api/callback.ts";
import { classicPayload } from "../core/delivery/classic.ts";
import { structuredBody } from "../core/delivery/cloudevents.ts";
import { filesOf, type ModuleFunctions } from "../core/delivery/module-functions.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import { type ChangeEvent, type EventOrigin, stableEventId } from "../core/event.ts";
import { FileState } from "./file-state.ts";
import { type CallEnd, ModuleCall } from "./module-call.ts";
import { ModuleHost } from "./module-host.ts";
import type { CallRequest } from "./module-messages.ts";
import { refusal } from "./refusal.ts";

/** Suspects that are remembered; those that became dead letters are among them. */
const MAX_SUSPECTS = 10_000;

const LATER: AttemptOutcome = {
  kind: "interrupted",
  code: "waiting",
  message: "it is to be tried by itself, and others come first",
  retryAfterMs: 1000,
};

export interface ModuleTransportOptions {
  readonly callback: string;
  readonly module: Pick<ModuleSpec, "format" | "memoryMegabytes">;
  readonly functions: ModuleFunctions;
  readonly limits: Pick<CallbackSpec, "batch" | "delivery">;
  readonly origin: EventOrigin;
}

export class ModuleTransport implements Transport {
  readonly maxEvents = 1;
  readonly maxBytes: number;
  readonly #options: ModuleTransportOptions;
  readonly #underWay = new Set<ModuleCall>();
  #shared: { readonly host: ModuleHost; readonly files: FileState } | null = null;
  /** The shared one before, while calls are left in it. */
  #leaving: ModuleHost | null = null;
  /** Ids of events that are tried in a thread of their own. */
  readonly #suspects = new Set<string>();
  /** The end of the queue of those. */
  #alone: Promise<void> = Promise.resolve();
  #queued = 0;
  #closed: Promise<void> | null = null;

  constructor(options: ModuleTransportOptions) {
    this.#options = options;
    this.maxBytes = options.limits.batch.maxBytes;
  }

  async deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    const refused = refusal(this, events, signal, this.#closed !== null);
    if (refused !== null) return refused;
    const event = events[0] as ChangeEvent;
    const suspect = this.#suspects.has(event.id);
    if (suspect && this.#queued >= this.#queueLength) return LATER;
    const call = new ModuleCall(this.#request(event), signal);
    this.#underWay.add(call);
    if (suspect) this.#queue(call);
    else this.#callIn(() => this.#sharedHost(), call);
    const { outcome, end } = await call.result;
    this.#underWay.delete(call);
    this.#note(event.id, end);
    return outcome;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#underWay].map((call) => call.result));
    await Promise.all([this.#shared?.host.end(), this.#leaving?.end(), this.#alone]);
  }

  /** Half of the requests under way: however many events hang by themselves, others go on. */
  get #queueLength(): number {
    return Math.ceil(this.#options.limits.delivery.maxInFlight / 2);
  }

  #request(event: ChangeEvent): CallRequest {
    const { origin, module } = this.#options;
    return {
      handler: event.operation === "SchemaChange" ? "onSchemaChange" : "onData",
      eventId: stableEventId(origin, event),
      json: module.format === "Classic" ? classicPayload(event) : structuredBody(origin, event),
    };
  }

  #sharedHost(): ModuleHost {
    if (this.#shared !== null) {
      const { host, files } = this.#shared;
      if (!host.retired && !files.changed(host.idle)) return host;
      host.retire();
      void this.#leaving?.end();
      this.#leaving = host;
    }
    const files = new FileState(filesOf(this.#options.functions)); // before they are read
    this.#shared = { files, host: this.#startHost() };
    return this.#shared.host;
  }

  #queue(call: ModuleCall): void {
    this.#queued += 1;
    this.#alone = this.#alone
      .then(() => this.#callAlone(call))
      .finally(() => {
        this.#queued -= 1;
      });
  }

  async #callAlone(call: ModuleCall): Promise<void> {
    if (call.settled) return;
    const host = this.#callIn(() => this.#startHost(), call);
    await call.result;
    await host?.end();
  }

  #startHost(): ModuleHost {
    const { callback, functions, module, limits } = this.#options;
    const timeoutMs = limits.delivery.timeoutSeconds * 1000;
    return new ModuleHost({ callback, functions, timeoutMs, memoryMegabytes: module.memoryMegabytes });
  }

  #callIn(host: () => ModuleHost, call: ModuleCall): ModuleHost | null {
    try {
      const found = host();
      found.take(call);
      return found;
    } catch (error) {
      const { code = "no code" } = error as NodeJS.ErrnoException;
      const message = `no thread could be started (${code})`;
      call.settle({ kind: "retryable", code: "module", message }, "Unjudged");
      return null;
    }
  }

  #note(eventId: string, end: CallEnd): void {
    if (end === "Answered") this.#suspects.delete(eventId);
    if (end !== "Unanswered") return;
    this.#suspects.add(eventId);
    const [oldest] = this.#suspects;
    if (this.#suspects.size > MAX_SUSPECTS && oldest !== undefined) this.#suspects.delete(oldest);
  }
}
