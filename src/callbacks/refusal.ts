import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import { PgEventsError } from "../core/errors.ts";
import type { ChangeEvent } from "../core/event.ts";
import { AddressDenied } from "./address-check.ts";
import { ProxyProblem } from "./proxy.ts";

export const ABORTED: AttemptOutcome = {
  kind: "retryable",
  code: "aborted",
  message: "the attempt was given up",
};

/** The outcome of an error that is ours, such as a Secret that cannot be used, an address that may not be called or a proxy that gives no connection; else null. */
export function outcomeOfOurs(error: unknown): AttemptOutcome | null {
  const ours =
    error instanceof PgEventsError || error instanceof AddressDenied || error instanceof ProxyProblem;
  if (!ours) return null;
  return { kind: "retryable", code: error.code, message: error.message };
}

/** Why an attempt is not even begun; null when nothing speaks against it. */
export function refusal(
  { maxEvents }: Pick<Transport, "maxEvents">,
  events: readonly ChangeEvent[],
  signal: AbortSignal,
  closed: boolean,
): AttemptOutcome | null {
  if (signal.aborted) return ABORTED;
  if (closed) return { kind: "retryable", code: "closed", message: "the transport is closed" };
  if (events.length > 0 && events.length <= maxEvents) return null;
  // Only the first would be sent and all would count as delivered. Permanent, so that they are sent one by one.
  return {
    kind: "permanent",
    code: "batch-size",
    message: `${events.length} events in one attempt, at most ${maxEvents} are possible`,
  };
}
