/**
 * One call of a user's function, from hand-over to outcome. It settles exactly once: by its answer, by the
 * end of its thread, by its time limit or by the signal, whichever is first; what comes later changes nothing.
 */
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import type { CallRequest } from "./module-messages.ts";
import { ABORTED } from "./refusal.ts";

export interface CallResult {
  readonly outcome: AttemptOutcome;
  readonly end: CallEnd;
}

export type CallEnd =
  /** The function returned or threw. */
  | "Answered"
  /** Its thread ended, or its time: by its own fault or by that of another call in the same thread. */
  | "Unanswered"
  /** Given up, or the module could not be loaded: says nothing of the event. */
  | "Unjudged";

export class ModuleCall {
  readonly request: CallRequest;
  readonly result: Promise<CallResult>;
  readonly #resolve: (result: CallResult) => void;
  readonly #signal: AbortSignal;
  #timer: NodeJS.Timeout | null = null;
  #onSettled: ((end: CallEnd) => void) | null = null;
  #settled = false;

  constructor(request: CallRequest, signal: AbortSignal) {
    const { promise, resolve } = Promise.withResolvers<CallResult>();
    this.request = request;
    this.result = promise;
    this.#resolve = resolve;
    this.#signal = signal;
    signal.addEventListener("abort", this.#abort);
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** A thread has it now, and wants to know when it is over. */
  taken(onSettled: (end: CallEnd) => void): void {
    this.#onSettled = onSettled;
  }

  /** The function is called: its time runs. */
  begun(timeoutMs: number, timeUp: () => void): void {
    if (!this.#settled) this.#timer = setTimeout(timeUp, timeoutMs);
  }

  settle(outcome: AttemptOutcome, end: CallEnd): void {
    if (this.#settled) return;
    this.#settled = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#signal.removeEventListener("abort", this.#abort);
    this.#resolve({ outcome, end });
    this.#onSettled?.(end);
  }

  readonly #abort = (): void => this.settle(ABORTED, "Unjudged");
}
