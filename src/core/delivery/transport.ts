/** The contract between the relay and a transport of src/callbacks. */
import type { ChangeEvent } from "../event.ts";

/** What came of one attempt. `code` is a short stable label for metrics (`200`, `timeout`, `ECONNREFUSED`). */
export type AttemptOutcome =
  | { readonly kind: "acknowledged"; readonly code: string }
  /** May succeed later. `retryAfterMs`: how long the receiver asked to be left alone. */
  | {
      readonly kind: "retryable";
      readonly code: string;
      readonly message: string;
      readonly retryAfterMs?: number;
    }
  /** Cut off by no fault of its own: another event took down what both shared. Tried again, at once or after `retryAfterMs`, and not counted. */
  | {
      readonly kind: "interrupted";
      readonly code: string;
      readonly message: string;
      readonly retryAfterMs?: number;
    }
  /** Will fail in the same way each time: a dead letter at once. */
  | { readonly kind: "permanent"; readonly code: string; readonly message: string };

export interface Transport {
  /** How many events one attempt may carry. */
  readonly maxEvents: number;
  /** How many bytes of row images one attempt may carry; a single larger event goes alone. */
  readonly maxBytes: number;
  /**
   * One attempt, all or nothing. Never rejects: every failure is an outcome. Bounded in time by the
   * transport's own timeout; `signal` aborts it at once (outcome `retryable`, code `aborted`).
   */
  deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome>;
  /** Ends idle connections; attempts under way are finished first. */
  close(): Promise<void>;
}
