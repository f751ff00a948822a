/**
 * Delivery to NATS JetStream, one message an event: the stream's acknowledgement is the event's. Messages of one
 * attempt could not be retried in order, as a stream may take the second and not the first, so each goes by itself,
 * many at once.
 */
import type { JetStreamPublishOptions } from "@nats-io/jetstream";
import type { CallbackSpec } from "../core/api/callback.ts";
import type { NatsSpec } from "../core/api/nats.ts";
import {
  deliveryId,
  eventData,
  natsHeaders,
  STRUCTURED_TYPE,
  structuredBody,
} from "../core/delivery/cloudevents.ts";
import { natsDestination } from "../core/delivery/destination.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent, EventOrigin } from "../core/event.ts";
import type { AddressPolicy } from "./address-check.ts";
import { Attempts } from "./attempts.ts";
import { NatsConnector, type OpenConnection } from "./nats-connection.ts";
import { natsOutcome } from "./nats-outcome.ts";
import { ABORTED, refusal } from "./refusal.ts";
import type { CallbackSecrets } from "./secret-values.ts";

export interface NatsTransportOptions {
  /** Name of the callback. */
  readonly callback: string;
  readonly nats: NatsSpec;
  readonly limits: Pick<CallbackSpec, "batch" | "delivery">;
  readonly origin: EventOrigin;
  readonly secrets: CallbackSecrets;
  readonly addresses: AddressPolicy;
  readonly userAgent: string;
}

export class NatsTransport implements Transport {
  readonly maxEvents = 1;
  readonly maxBytes: number;
  readonly #options: NatsTransportOptions;
  readonly #timeoutMs: number;
  readonly #attempts: Attempts;
  readonly #connector: NatsConnector;
  readonly #subjectOf: (event: ChangeEvent) => string;
  #closed: Promise<void> | null = null;

  constructor(options: NatsTransportOptions) {
    const { callback, nats, secrets, addresses, limits, userAgent } = options;
    this.#options = options;
    this.maxBytes = limits.batch.maxBytes;
    this.#timeoutMs = limits.delivery.timeoutSeconds * 1000;
    this.#attempts = new Attempts(this.#timeoutMs);
    this.#connector = new NatsConnector({
      nats,
      secrets,
      addresses,
      timeoutMs: this.#timeoutMs,
      name: `${userAgent} ${callback}`,
    });
    this.#subjectOf = natsDestination(nats.subject);
  }

  async deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    const refused = refusal(this, events, signal, this.#closed !== null);
    if (refused !== null) return refused;
    return this.#attempts.run(signal, (givenUp) => this.#publish(events[0] as ChangeEvent, givenUp));
  }

  close(): Promise<void> {
    this.#closed ??= this.#attempts.finished().then(() => this.#connector.close());
    return this.#closed;
  }

  async #publish(event: ChangeEvent, givenUp: AbortSignal): Promise<AttemptOutcome> {
    const subject = this.#subjectOf(event);
    let size = { subject, bytes: 0, maxBytes: 0 };
    try {
      const connection = await this.#connector.open();
      if (givenUp.aborted) return ABORTED;
      const payload = this.#payload(event);
      size = { subject, bytes: payload.length, maxBytes: connection.nats.info?.max_payload ?? 0 };
      const { duplicate } = await connection.jetstream.publish(
        subject,
        payload,
        this.#publishOptions(event, connection),
      );
      return { kind: "acknowledged", code: duplicate ? "duplicate" : "stored" };
    } catch (error) {
      return natsOutcome(error, size);
    }
  }

  #payload(event: ChangeEvent): Buffer {
    const { nats, origin } = this.#options;
    return Buffer.from(
      nats.format === "CloudEventsBinary" ? eventData(event) : structuredBody(origin, event),
    );
  }

  #publishOptions(
    event: ChangeEvent,
    { headers: newHeaders }: OpenConnection,
  ): Partial<JetStreamPublishOptions> {
    const { callback, nats, origin } = this.#options;
    const headers = newHeaders();
    const pairs =
      nats.format === "CloudEventsBinary" ? natsHeaders(origin, event) : ["content-type", STRUCTURED_TYPE];
    for (let index = 0; index < pairs.length; index += 2) {
      headers.set(pairs[index] as string, pairs[index + 1] as string);
    }
    return {
      headers,
      // With the callback's name: two callbacks may write to one stream, and neither is the other's repeat.
      msgID: deliveryId(origin, event, callback),
      timeout: this.#timeoutMs,
      ...(nats.stream === undefined ? {} : { expect: { streamName: nats.stream } }),
    };
  }
}
