/** Delivery to Apache Kafka: the events of an attempt in one produce request for each broker, keyed by the row. */
import type { MessageToProduce } from "@platformatic/kafka";
import type { CallbackSpec } from "../core/api/callback.ts";
import type { KafkaSpec } from "../core/api/kafka.ts";
import {
  eventData,
  kafkaHeaders,
  partitionKeyOf,
  STRUCTURED_TYPE,
  structuredBody,
} from "../core/delivery/cloudevents.ts";
import { kafkaDestination } from "../core/delivery/destination.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent, EventOrigin } from "../core/event.ts";
import type { AddressPolicy } from "./address-check.ts";
import { Attempts } from "./attempts.ts";
import { kafkaOutcome, type SentBatch } from "./kafka-outcome.ts";
import { KafkaProducers } from "./kafka-producers.ts";
import { ABORTED, refusal } from "./refusal.ts";
import type { CallbackSecrets } from "./secret-values.ts";

const MAX_TOPIC_CHARACTERS = 249;

type Message = MessageToProduce<Buffer, Buffer, Buffer, Buffer>;

export interface KafkaTransportOptions {
  /** Name of the callback. */
  readonly callback: string;
  readonly kafka: KafkaSpec;
  readonly limits: Pick<CallbackSpec, "batch" | "delivery">;
  readonly origin: EventOrigin;
  readonly secrets: CallbackSecrets;
  readonly addresses: AddressPolicy;
}

export class KafkaTransport implements Transport {
  readonly maxEvents: number;
  readonly maxBytes: number;
  readonly #options: KafkaTransportOptions;
  readonly #attempts: Attempts;
  readonly #producers: KafkaProducers;
  readonly #topicOf: (event: ChangeEvent) => string;
  #closed: Promise<void> | null = null;

  constructor(options: KafkaTransportOptions) {
    const { callback, kafka, limits, secrets, addresses } = options;
    const { batch, delivery } = limits;
    const timeoutMs = delivery.timeoutSeconds * 1000;
    this.#options = options;
    this.maxEvents = batch.maxEvents;
    this.maxBytes = batch.maxBytes;
    this.#attempts = new Attempts(timeoutMs);
    this.#producers = new KafkaProducers({
      kafka,
      secrets,
      addresses,
      timeoutMs,
      maxInFlight: delivery.maxInFlight,
      name: `pg-events-${callback}`,
    });
    this.#topicOf = kafkaDestination(kafka.topic);
  }

  async deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    const refused = refusal(this, events, signal, this.#closed !== null);
    if (refused !== null) return refused;
    return this.#attempts.run(signal, (givenUp) => this.#produce(events, givenUp));
  }

  close(): Promise<void> {
    this.#closed ??= this.#attempts.finished().then(() => this.#producers.close());
    return this.#closed;
  }

  async #produce(events: readonly ChangeEvent[], givenUp: AbortSignal): Promise<AttemptOutcome> {
    const messages = events.map((event) => this.#message(event));
    const [{ topic }] = messages as [Message];
    const bytes = messages.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
    const sent: SentBatch = { topic, events: events.length, bytes };
    const long = messages.find((message) => message.topic.length > MAX_TOPIC_CHARACTERS);
    if (long !== undefined) return topicTooLong(long.topic);
    try {
      const outcome = await this.#producers.use(givenUp, async (producer) => {
        try {
          await producer.send({ messages });
          return { result: { kind: "acknowledged", code: "stored" } as AttemptOutcome, keep: true };
        } catch (error) {
          const result = kafkaOutcome(error, sent);
          return { result, keep: result.kind === "permanent" };
        }
      });
      return outcome ?? ABORTED;
    } catch (error) {
      return kafkaOutcome(error, sent);
    }
  }

  #message(event: ChangeEvent): Message {
    const { kafka, origin } = this.#options;
    const binary = kafka.format === "CloudEventsBinary";
    const pairs = binary ? kafkaHeaders(origin, event) : ["content-type", STRUCTURED_TYPE];
    const headers = new Map<Buffer, Buffer>();
    for (let index = 0; index < pairs.length; index += 2) {
      headers.set(headerName(pairs[index] as string), Buffer.from(pairs[index + 1] as string));
    }
    return {
      topic: this.#topicOf(event),
      key: Buffer.from(partitionKeyOf(event)),
      value: Buffer.from(binary ? eventData(event) : structuredBody(origin, event)),
      headers,
    };
  }
}

function topicTooLong(topic: string): AttemptOutcome {
  const message = `the topic has ${topic.length} characters, more than the ${MAX_TOPIC_CHARACTERS} of Kafka; shorten \`topic\``;
  return { kind: "permanent", code: "topic-too-long", message };
}

/** There are few names, and each message has them all. */
const headerNames = new Map<string, Buffer>();

function headerName(name: string): Buffer {
  let bytes = headerNames.get(name);
  if (bytes === undefined) {
    bytes = Buffer.from(name);
    headerNames.set(name, bytes);
  }
  return bytes;
}
