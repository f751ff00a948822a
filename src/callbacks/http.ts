/** HTTP POST over kept-alive HTTP/1.1 connections. Any 2xx acknowledges; bodies of answers are thrown away. */
import { Agent, buildConnector, type Dispatcher } from "undici";
import type { CallbackSpec } from "../core/api/callback.ts";
import { BATCH_TYPE, batchBody, binaryHeaders, eventData, STRUCTURED_TYPE, structuredBody } from "../core/delivery/cloudevents.ts";
import { outcomeOfFailure, outcomeOfStatus } from "../core/delivery/http-outcome.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import type { ChangeEvent, EventOrigin } from "../core/event.ts";
import { type AddressPolicy, checkedLookup, checkLiteral } from "./address-check.ts";

/** Bytes of an answer that are read before the connection is given up. */
const MAX_ANSWER_BYTES = 65_536;

export interface HttpTransportOptions {
  readonly callback: CallbackSpec;
  readonly origin: EventOrigin;
  /** The headers of the spec with their values, read anew for each request so that Secrets can change. */
  readonly headers: () => readonly string[];
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca: string | undefined;
  readonly addresses: AddressPolicy;
  /** `pg-events/<version>` */
  readonly userAgent: string;
}

export class HttpTransport implements Transport {
  readonly maxEvents: number;
  readonly maxBytes: number;
  readonly #options: HttpTransportOptions;
  readonly #agent: Agent;
  readonly #origin: string;
  readonly #path: string;
  readonly #hostname: string;
  readonly #timeoutMs: number;

  constructor(options: HttpTransportOptions) {
    const { http, batch, delivery } = options.callback;
    const url = new URL(http.uri);
    this.#options = options;
    this.#origin = url.origin;
    this.#path = `${url.pathname}${url.search}`;
    this.#hostname = url.hostname;
    this.#timeoutMs = delivery.timeoutSeconds * 1000;
    this.maxEvents = http.format === "CloudEventsBatch" ? batch.maxEvents : 1;
    this.maxBytes = batch.maxBytes;
    this.#agent = new Agent({
      connect: connector(options, this.#timeoutMs),
      connections: delivery.maxInFlight,
      pipelining: 1,
      allowH2: false,
      headersTimeout: this.#timeoutMs,
      bodyTimeout: this.#timeoutMs,
      keepAliveTimeout: 30_000,
      maxResponseSize: MAX_ANSWER_BYTES,
    });
  }

  async deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    try {
      checkLiteral(this.#hostname, this.#options.addresses);
      const response = await this.#agent.request({
        origin: this.#origin,
        path: this.#path,
        method: "POST",
        headers: this.#headers(events),
        body: this.#body(events),
        signal,
      });
      const outcome = outcomeOfStatus(response.statusCode, headerText(response.headers["retry-after"]), Date.now());
      await discard(response.body);
      return outcome;
    } catch (error) {
      return outcomeOfFailure(error);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  #headers(events: readonly ChangeEvent[]): string[] {
    const { callback, origin, userAgent } = this.#options;
    const event = events[0] as ChangeEvent;
    const { format } = callback.http;
    const headers =
      format === "CloudEventsBinary"
        ? binaryHeaders(origin, event)
        : ["content-type", format === "CloudEventsBatch" ? BATCH_TYPE : STRUCTURED_TYPE];
    headers.push("user-agent", userAgent, ...this.#options.headers());
    return headers;
  }

  #body(events: readonly ChangeEvent[]): string {
    const { callback, origin } = this.#options;
    const event = events[0] as ChangeEvent;
    switch (callback.http.format) {
      case "CloudEventsBinary":
        return eventData(event);
      case "CloudEventsStructured":
        return structuredBody(origin, event);
      case "CloudEventsBatch":
        return batchBody(origin, events);
    }
  }
}

function connector({ ca, addresses }: HttpTransportOptions, timeoutMs: number): buildConnector.connector {
  return buildConnector({
    timeout: timeoutMs,
    allowH2: false,
    lookup: checkedLookup(addresses),
    ...(ca === undefined ? {} : { ca }),
  } as buildConnector.BuildOptions);
}

/** The status has been seen, so the outcome stands; a body that is endless or cut off costs only its connection. */
async function discard(body: Dispatcher.ResponseData["body"]): Promise<void> {
  try {
    await body.dump({ limit: MAX_ANSWER_BYTES });
  } catch {
    // nothing of the body is used
  }
}

function headerText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
