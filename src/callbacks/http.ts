/**
 * Delivery by HTTP POST, one request an attempt. Any 2xx acknowledges; redirects are not followed;
 * bodies of answers are thrown away.
 */
import type { KeyObject } from "node:crypto";
import type { Pool } from "undici";
import type { CallbackSpec, HttpSpec } from "../core/api/callback.ts";
import { classicPayload } from "../core/delivery/classic.ts";
import {
  BATCH_TYPE,
  batchBody,
  binaryHeaders,
  DATA_TYPE,
  eventData,
  STRUCTURED_TYPE,
  structuredBody,
  traceparentOf,
} from "../core/delivery/cloudevents.ts";
import type { AttemptOutcome, Transport } from "../core/delivery/transport.ts";
import { webhookHeaders } from "../core/delivery/webhook-signature.ts";
import { type ChangeEvent, type EventOrigin, stableEventId } from "../core/event.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";
import type { AddressPolicy, ResolveName } from "./address-check.ts";
import { AttemptsUnderWay } from "./attempts-under-way.ts";
import { HttpAttempt } from "./http-attempt.ts";
import { connectionPool } from "./http-connections.ts";
import { proxyFor } from "./proxy.ts";
import { refusal } from "./refusal.ts";
import type { TlsMaterial } from "./secret-values.ts";

const CONTENT_TYPES = {
  CloudEventsStructured: STRUCTURED_TYPE,
  CloudEventsBatch: BATCH_TYPE,
  Classic: DATA_TYPE,
} as const;

export interface HttpTransportOptions {
  readonly http: HttpSpec & { readonly uri: string };
  readonly limits: Pick<CallbackSpec, "batch" | "delivery">;
  readonly origin: EventOrigin;
  /** The headers of the spec with their values, names and values one after the other; asked for each request, so that Secrets can change. */
  readonly headers: () => readonly string[];
  /** Keys to sign each request with; asked for each. Null: none is signed. */
  readonly signingKeys: (() => readonly KeyObject[]) | null;
  /** Authorities to trust instead of the system's, and a certificate to show; asked for each new connection. */
  readonly tls: () => TlsMaterial;
  readonly addresses: AddressPolicy;
  readonly proxy?: ProxySettings | undefined;
  /** `pg-events/<version>` */
  readonly userAgent: string;
  /** Instead of the system's name resolution. */
  readonly resolve?: ResolveName | undefined;
}

export class HttpTransport implements Transport {
  readonly maxEvents: number;
  readonly maxBytes: number;
  readonly #options: HttpTransportOptions;
  readonly #pool: Pool;
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #underWay = new AttemptsUnderWay();
  #closed: Promise<void> | null = null;

  constructor(options: HttpTransportOptions) {
    const { http, tls, addresses, proxy, resolve } = options;
    const { batch, delivery } = options.limits;
    const url = new URL(http.uri);
    this.#options = options;
    this.#path = `${url.pathname}${url.search}`;
    this.#timeoutMs = delivery.timeoutSeconds * 1000;
    this.maxEvents = http.format === "CloudEventsBatch" ? batch.maxEvents : 1;
    this.maxBytes = batch.maxBytes;
    this.#pool = connectionPool({
      url,
      connections: delivery.maxInFlight,
      timeoutMs: this.#timeoutMs,
      tls,
      http2: http.protocol === "Http2",
      addresses,
      proxy: proxyFor(url, proxy),
      resolve,
    });
  }

  deliver(events: readonly ChangeEvent[], signal: AbortSignal): Promise<AttemptOutcome> {
    return new Promise((settle) => {
      const refused = refusal(this, events, signal, this.#closed !== null);
      if (refused !== null) return settle(refused);
      const attempt = new HttpAttempt(this.#underWay, signal, this.#timeoutMs, settle);
      try {
        const body = this.#body(events);
        const headers = this.#headers(events, body);
        this.#pool.dispatch({ path: this.#path, method: "POST", headers, body }, attempt);
      } catch (error) {
        attempt.failed(error as Error);
      }
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#pool.close();
    return this.#closed;
  }

  #headers(events: readonly ChangeEvent[], body: string): string[] {
    const { http, origin, userAgent, signingKeys } = this.#options;
    const first = events[0] as ChangeEvent;
    const headers =
      http.format === "CloudEventsBinary"
        ? binaryHeaders(origin, first)
        : ["content-type", CONTENT_TYPES[http.format]];
    headers.push("user-agent", userAgent, ...this.#options.headers());
    const trace = events.length === 1 ? traceparentOf(first) : null;
    if (trace !== null) headers.push("traceparent", trace);
    if (signingKeys !== null) {
      const seconds = Math.floor(Date.now() / 1000);
      headers.push(...webhookHeaders(signingKeys(), requestId(origin, events), seconds, body));
    }
    return headers;
  }

  #body(events: readonly ChangeEvent[]): string {
    const { http, origin } = this.#options;
    const event = events[0] as ChangeEvent;
    switch (http.format) {
      case "CloudEventsBinary":
        return eventData(event);
      case "CloudEventsStructured":
        return structuredBody(origin, event);
      case "CloudEventsBatch":
        return batchBody(origin, events);
      case "Classic":
        return classicPayload(event);
    }
  }
}

/** The same at each attempt: a batch is kept together over its attempts. */
function requestId(origin: EventOrigin, events: readonly ChangeEvent[]): string {
  const id = stableEventId(origin, events[0] as ChangeEvent);
  return events.length === 1 ? id : `${id}_${events.length}`;
}
