/** What an error of the NATS client means for an event. Errors are known by name: the client may not be loaded. */
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import { certificateProblem, connectionProblem } from "./connection-problem.ts";
import { outcomeOfOurs } from "./refusal.ts";

export interface SentMessage {
  readonly subject: string;
  readonly bytes: number;
  /** What the server takes; 0 when it is not known. */
  readonly maxBytes: number;
}

/** Codes of the JetStream API that depend on the message alone. */
const TOO_LARGE_FOR_STREAM = new Set([10054, 10097]);
/** The stream that took the message is not the one that was named. */
const WRONG_STREAM = 10060;

export function natsOutcome(error: unknown, sent: SentMessage): AttemptOutcome {
  if (outcomeOfOurs(error) !== null) throw error; // whoever makes the attempt knows it
  for (const cause of chainOf(error)) {
    const outcome = outcomeOf(cause, sent);
    if (outcome !== null) return outcome;
  }
  return { kind: "retryable", code: "failed", message: "the message could not be published" };
}

function outcomeOf(error: NatsFailure, { subject, bytes, maxBytes }: SentMessage): AttemptOutcome | null {
  const retryable = (code: string, message: string): AttemptOutcome => ({ kind: "retryable", code, message });
  switch (error.name) {
    case "InvalidArgumentError":
      if (!/max_payload/.test(error.message)) return null;
      return {
        kind: "permanent",
        code: "too-large",
        message: `the event takes ${bytes} bytes and headers, the server takes ${maxBytes} (\`max_payload\`)`,
      };
    case "JetStreamNotEnabled":
      return retryable(
        "no-stream",
        `no stream holds the subject ${subject}, or JetStream is off; create a stream, or correct \`subject\``,
      );
    case "JetStreamApiError":
    case "StreamNotFoundError":
      return outcomeOfApi(error.code, subject);
    case "TimeoutError":
      return retryable("timeout", "no answer in time");
    case "AuthorizationError":
    case "UserAuthenticationExpiredError":
      return retryable("authorization", "the server refuses the login; check `auth`");
    case "PermissionViolationError":
      return retryable("permission", `the login may not publish to ${subject}, or not get the answer`);
    case "ClosedConnectionError":
    case "DrainingConnectionError":
      return retryable("connection-lost", "the connection was lost");
  }
  if (/does not support 'tls'/.test(error.message)) {
    return retryable(
      "no-tls",
      "the server offers no TLS; use nats:// without `tls`, or set the server up for it",
    );
  }
  return certificateProblem(error.code) ?? connectionProblem(error.code, "`servers`");
}

function outcomeOfApi(code: number | string | undefined, subject: string): AttemptOutcome {
  if (TOO_LARGE_FOR_STREAM.has(Number(code))) {
    const message = "the event is larger than the stream takes (`max_msg_size`)";
    return { kind: "permanent", code: `jetstream-${code}`, message };
  }
  const message =
    code === WRONG_STREAM
      ? `the subject ${subject} belongs to another stream than \`stream\` names`
      : "the stream does not take the message now";
  return { kind: "retryable", code: `jetstream-${code}`, message };
}

type NatsFailure = Error & { readonly code?: number | string };

function* chainOf(error: unknown): Generator<NatsFailure> {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < 5;
    current = current.cause, depth += 1
  ) {
    yield current as NatsFailure;
  }
}
