/**
 * One request from hand-over to outcome, on the lowest interface of the HTTP client: `request` makes
 * streams and promises that nothing here needs. It settles exactly once: by the answer, by a failure,
 * by its time limit or by the signal, whichever is first; what comes later changes nothing, and a
 * request that still waits for a connection by then is never sent.
 *
 * Once the status has been seen the outcome is fixed. The body is read only to keep the connection
 * usable, and given up with it when it is too long or too slow.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { outcomeOfFailure, outcomeOfStatus } from "../core/delivery/http-outcome.ts";
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import type { AttemptsUnderWay, UnderWay } from "./attempts-under-way.ts";
import { ABORTED, outcomeOfOurs } from "./refusal.ts";

/** Bytes of an answer's body that are read before its connection is given up. */
const MAX_ANSWER_BYTES = 65_536;

export class HttpAttempt implements Dispatcher.DispatchHandler, UnderWay {
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly #settle: (outcome: AttemptOutcome) => void;
  readonly #underWay: AttemptsUnderWay;
  #controller: Dispatcher.DispatchController | null = null;
  /** By the status, while the body is still coming. */
  #outcome: AttemptOutcome | null = null;
  #bytes = 0;
  #settled = false;

  constructor(
    underWay: AttemptsUnderWay,
    signal: AbortSignal,
    timeoutMs: number,
    settle: (outcome: AttemptOutcome) => void,
  ) {
    this.signal = signal;
    this.deadlineMs = performance.now() + timeoutMs;
    this.#settle = settle;
    this.#underWay = underWay;
    underWay.add(this);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#settled) controller.abort(new Error("settled before it was sent"));
    else this.#controller = controller;
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status >= 200) this.#outcome = outcomeOfStatus(status, headers["retry-after"], Date.now());
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_ANSWER_BYTES) this.#giveUp(ABORTED);
  }

  onResponseEnd(): void {
    this.#finish(this.#outcome ?? outcomeOfFailure(undefined));
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.failed(error);
  }

  /** The request failed, here or before it could be sent. */
  failed(error: Error & { readonly code?: string }): void {
    this.#finish(outcomeOfOurs(error) ?? outcomeOfFailure(error.code));
  }

  abort(): void {
    this.#giveUp(ABORTED);
  }

  timeUp(): void {
    this.#giveUp(
      outcomeOfFailure(this.#controller === null ? "UND_ERR_CONNECT_TIMEOUT" : "UND_ERR_HEADERS_TIMEOUT"),
    );
  }

  #giveUp(outcome: AttemptOutcome): void {
    this.#finish(outcome);
    this.#controller?.abort(new Error("given up"));
  }

  #finish(outcome: AttemptOutcome): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#underWay.delete(this);
    this.#settle(this.#outcome ?? outcome);
  }
}
