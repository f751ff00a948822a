/** What an error of the Kafka client means for an event. Errors are known by their fields: the client may not be loaded. */
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import { AddressDenied } from "./address-check.ts";
import { certificateProblem, connectionProblem } from "./connection-problem.ts";
import { outcomeOfOurs } from "./refusal.ts";

export interface SentBatch {
  readonly topic: string;
  /** Events in it. */
  readonly events: number;
  /** Bytes of their values. */
  readonly bytes: number;
}

/** The event itself is the reason; a batch is then sent event by event. */
const PERMANENT: Record<string, (sent: SentBatch) => string> = {
  MESSAGE_TOO_LARGE: tooLarge,
  RECORD_LIST_TOO_LARGE: tooLarge,
  INVALID_TOPIC_EXCEPTION: ({ topic }) => `the broker takes no topic of the name ${topic}`,
  INVALID_RECORD: ({ topic }) => `the broker refuses the message for topic ${topic}`,
};

const RETRYABLE: Record<string, (sent: SentBatch) => string> = {
  UNKNOWN_TOPIC_OR_PARTITION: unknownTopic,
  TOPIC_AUTHORIZATION_FAILED: ({ topic }) => `the login may not write to topic ${topic}`,
  CLUSTER_AUTHORIZATION_FAILED: () => "the login may not write idempotently (IdempotentWrite on the cluster)",
  SASL_AUTHENTICATION_FAILED: refusedLogin,
  UNSUPPORTED_SASL_MECHANISM: () => "the broker does not offer `sasl.mechanism`",
  NOT_ENOUGH_REPLICAS: () => "too few replicas are in sync (`min.insync.replicas`)",
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: () => "too few replicas are in sync (`min.insync.replicas`)",
};

export function kafkaOutcome(error: unknown, sent: SentBatch): AttemptOutcome {
  if (outcomeOfOurs(error) !== null) throw error; // whoever makes the attempt knows it
  const failures = [...allOf(error)];
  const denied = failures.find((failure) => failure instanceof AddressDenied);
  if (denied !== undefined) throw denied;
  for (const { apiId = "" } of failures) {
    const message = PERMANENT[apiId]?.(sent);
    if (message !== undefined) return { kind: "permanent", code: apiId, message };
  }
  for (const failure of failures) {
    const outcome = retryableOf(failure, sent);
    if (outcome !== null) return outcome;
  }
  const apiId = failures.find((failure) => failure.apiId !== undefined)?.apiId;
  return apiId === undefined
    ? { kind: "retryable", code: "failed", message: "the brokers could not be reached, or did not answer" }
    : { kind: "retryable", code: apiId, message: `the broker cannot take the message now (${apiId})` };
}

function retryableOf({ apiId = "", code, message }: KafkaFailure, sent: SentBatch): AttemptOutcome | null {
  const known = RETRYABLE[apiId];
  if (known !== undefined) return { kind: "retryable", code: apiId, message: known(sent) };
  if (message.startsWith("Unknown topic")) {
    return { kind: "retryable", code: "UNKNOWN_TOPIC_OR_PARTITION", message: unknownTopic(sent) };
  }
  if (code === "PLT_KFK_AUTHENTICATION") {
    return { kind: "retryable", code: "SASL_AUTHENTICATION_FAILED", message: refusedLogin() };
  }
  if (/timed out/.test(message)) {
    return { kind: "retryable", code: "timeout", message: "no answer in time" };
  }
  return (
    certificateProblem(code) ?? connectionProblem(code, "`brokers`, or of what the brokers call themselves")
  );
}

function tooLarge({ topic, events, bytes }: SentBatch): string {
  const what = events === 1 ? "the event takes" : `${events} events take`;
  return `${what} ${bytes} bytes, more than topic ${topic} takes at once (\`max.message.bytes\`)`;
}

function unknownTopic({ topic }: SentBatch): string {
  return `the topic ${topic} does not exist, or the login may not see it; create it, or correct \`topic\``;
}

function refusedLogin(): string {
  return "the broker refuses the login; check `sasl`";
}

type KafkaFailure = Error & { readonly code?: string; readonly apiId?: string };

/** The error with all that it holds, the innermost last. */
function* allOf(error: unknown, depth = 0): Generator<KafkaFailure> {
  if (!(error instanceof Error) || depth > 8) return;
  yield error as KafkaFailure;
  if (error instanceof AggregateError) for (const part of error.errors) yield* allOf(part, depth + 1);
  yield* allOf(error.cause, depth + 1);
}
