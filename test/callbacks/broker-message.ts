/** CloudEvents as brokers' messages carry them, for the conformance suite. */
import { type EventData, MARKS, type ReceivedEvent } from "../support/receiver.ts";

const ATTRIBUTES = ["id", "type", "source", "subject", "time", "partitionkey", "sequence"] as const;

export interface BrokerMessage {
  /** Subject, or topic. */
  readonly destination: string;
  /** Value of a header, undecoded; undefined when it is not there. */
  readonly header: (name: string) => string | undefined;
  readonly body: string;
}

/** @param prefix of the headers of the binary mode @param decoded a header's value as the attribute's */
export function receivedEvent(
  { destination, header, body }: BrokerMessage,
  prefix: string,
  decoded: (value: string) => string,
): ReceivedEvent {
  if (header("content-type")?.startsWith("application/cloudevents+json")) {
    return { ...(JSON.parse(body) as ReceivedEvent), callbackPath: destination };
  }
  const there = [...ATTRIBUTES, ...MARKS.filter((name) => header(`${prefix}${name}`) !== undefined)];
  const attributes = there.map((name) => [name, decoded(header(`${prefix}${name}`) ?? "")]);
  return {
    ...(Object.fromEntries(attributes) as Omit<ReceivedEvent, "data" | "callbackPath">),
    data: JSON.parse(body) as EventData,
    callbackPath: destination,
  };
}
