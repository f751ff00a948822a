/**
 * Delivery to standard output, an event a line. A line is acknowledged once the system has it: a reader that is
 * slow slows this callback and no other. The worker's own log goes to standard error.
 */
import type { Writable } from "node:stream";
import type { CallbackSpec } from "../core/api/callback.ts";
import { structuredBody } from "../core/delivery/cloudevents.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent, EventOrigin } from "../core/event.ts";
import { Attempts } from "./attempts.ts";
import { ABORTED, refusal } from "./refusal.ts";

export interface StdoutTransportOptions {
  readonly limits: Pick<CallbackSpec, "batch" | "delivery">;
  readonly origin: EventOrigin;
  /** Default: this process's standard output. */
  readonly output?: Writable;
}

export class StdoutTransport implements Transport {
  readonly maxEvents: number;
  readonly maxBytes: number;
  readonly #origin: EventOrigin;
  readonly #output: Writable;
  readonly #attempts: Attempts;
  /** A write that was given up is still under way: writing it again at once would fill memory. */
  #stalled = 0;
  #closed: Promise<void> | null = null;

  constructor({ limits, origin, output = process.stdout }: StdoutTransportOptions) {
    this.maxEvents = limits.batch.maxEvents;
    this.maxBytes = limits.batch.maxBytes;
    this.#origin = origin;
    this.#output = output;
    this.#attempts = new Attempts(limits.delivery.timeoutSeconds * 1000);
    output.on("error", ignore); // each write gets the error, too
  }

  async deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    const refused = refusal(this, events, signal, this.#closed !== null);
    if (refused !== null) return refused;
    if (this.#stalled > 0) return STALLED;
    return this.#attempts.run(signal, (givenUp) => this.#write(events, givenUp));
  }

  close(): Promise<void> {
    this.#closed ??= this.#attempts.finished().then(() => {
      this.#output.off("error", ignore);
    });
    return this.#closed;
  }

  async #write(events: readonly ChangeEvent[], givenUp: AbortSignal): Promise<AttemptOutcome> {
    await null; // who aborts at once wants nothing written
    if (givenUp.aborted) return ABORTED;
    let lines = "";
    for (const event of events) lines += `${structuredBody(this.#origin, event)}\n`;
    return new Promise((resolve) => {
      let stalled = false;
      givenUp.addEventListener("abort", () => {
        stalled = true;
        this.#stalled += 1;
      });
      this.#output.write(lines, (error) => {
        if (stalled) this.#stalled -= 1;
        resolve(error ? outcomeOf(error) : ACKNOWLEDGED);
      });
    });
  }
}

const ACKNOWLEDGED: AttemptOutcome = { kind: "acknowledged", code: "written" };
const STALLED: AttemptOutcome = {
  kind: "retryable",
  code: "stalled",
  message: "what reads the standard output takes nothing",
};

function outcomeOf({ code = "failed" }: NodeJS.ErrnoException): AttemptOutcome {
  const gone = code === "EPIPE" || code === "ERR_STREAM_DESTROYED";
  return {
    kind: "retryable",
    code,
    message: gone
      ? "what read the standard output is gone; start the worker anew"
      : "the standard output cannot be written",
  };
}

function ignore(): void {}
