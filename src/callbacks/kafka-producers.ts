/**
 * The idempotent producers of a callback. One sends one batch at a time: concurrent batches of one producer share
 * its sequence numbers, and after a failure of one the client numbers anew, so that a broker could take another
 * for a repeat and drop it. A producer whose batch failed or was given up is thrown away.
 */
import { isIP } from "node:net";
import type { Producer } from "@platformatic/kafka";
import type { KafkaSpec } from "../core/api/kafka.ts";
import { bareHost } from "../core/bare-host.ts";
import { type AddressPolicy, checkedLookup } from "./address-check.ts";
import { checkedAddresses } from "./checked-addresses.ts";
import { missingClient } from "./client-package.ts";
import type { CallbackSecrets } from "./secret-values.ts";

export type BytesProducer = Producer<Buffer, Buffer, Buffer, Buffer>;

/** Each has a connection to every broker that it sends to. */
const MAX_PRODUCERS = 4;
/** Retries by the client, with the same sequence numbers, so that the broker drops repeats; at least 2, or it repeats for ever. */
const CLIENT_RETRIES = 2;
const CLIENT_RETRY_MS = 100;

const MECHANISMS = { Plain: "PLAIN", ScramSha256: "SCRAM-SHA-256", ScramSha512: "SCRAM-SHA-512" } as const;
const COMPRESSIONS = { None: "none", Gzip: "gzip", Snappy: "snappy", Lz4: "lz4", Zstd: "zstd" } as const;

export interface KafkaProducersOptions {
  readonly kafka: KafkaSpec;
  readonly secrets: CallbackSecrets;
  readonly addresses: AddressPolicy;
  readonly timeoutMs: number;
  readonly maxInFlight: number;
  /** What the broker's log shows. */
  readonly name: string;
}

export class KafkaProducers {
  readonly #options: KafkaProducersOptions;
  readonly #idle: BytesProducer[] = [];
  readonly #waiting = new Set<() => void>();
  #room: number;

  constructor(options: KafkaProducersOptions) {
    this.#options = options;
    this.#room = Math.min(MAX_PRODUCERS, options.maxInFlight);
    connectionSettings(options); // a missing Secret shows at the start, not at the first event
  }

  /**
   * Sends with a producer that nobody else uses meanwhile, and that is kept when `send` says so.
   * @throws PgEventsError, AddressDenied, or what the client throws
   */
  async use<T>(
    givenUp: AbortSignal,
    send: (producer: BytesProducer) => Promise<{ readonly result: T; readonly keep: boolean }>,
  ): Promise<T | null> {
    if (!(await this.#enter(givenUp))) return null;
    let producer = this.#idle.pop();
    let kept = false;
    try {
      producer ??= await this.#create();
      if (givenUp.aborted) {
        kept = true;
        return null;
      }
      givenUp.addEventListener("abort", () => void (kept || discard(producer)));
      const { result, keep } = await send(producer);
      kept = keep && !givenUp.aborted;
      return result;
    } finally {
      if (producer !== undefined) {
        if (kept) this.#idle.push(producer);
        else discard(producer);
      }
      this.#leave();
    }
  }

  /** Nothing may be under way any more. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#idle.splice(0).map((producer) => producer.close(true)));
  }

  /** @returns false when the attempt was given up before its turn came */
  async #enter(givenUp: AbortSignal): Promise<boolean> {
    while (this.#room === 0 && !givenUp.aborted) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
        givenUp.addEventListener("abort", wake);
      });
    }
    if (givenUp.aborted) {
      this.#wakeNext(); // it may have been this one's turn
      return false;
    }
    this.#room -= 1;
    return true;
  }

  #leave(): void {
    this.#room += 1;
    this.#wakeNext();
  }

  #wakeNext(): void {
    const [next] = this.#waiting;
    if (this.#room > 0) next?.();
  }

  async #create(): Promise<BytesProducer> {
    const { Producer } = await loadKafkaClient();
    const { kafka, addresses, timeoutMs, name } = this.#options;
    for (const broker of kafka.brokers) await checkedAddresses(hostOf(broker), addresses);
    const producer: BytesProducer = new Producer({
      clientId: name,
      bootstrapBrokers: [...kafka.brokers],
      idempotent: true,
      autocreateTopics: false,
      compression: COMPRESSIONS[kafka.compression],
      retries: CLIENT_RETRIES,
      retryDelay: CLIENT_RETRY_MS,
      connectTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      timeout: timeoutMs,
      ...connectionSettings(this.#options),
    });
    try {
      // What the cluster calls its brokers is as little to be trusted as what the manifest does.
      const { brokers } = await producer.metadata({ topics: [] });
      for (const { host } of brokers.values()) await checkedAddresses(host, addresses);
      return producer;
    } catch (error) {
      discard(producer);
      throw error;
    }
  }
}

async function loadKafkaClient(): Promise<typeof import("@platformatic/kafka")> {
  try {
    return await import("@platformatic/kafka");
  } catch (error) {
    return missingClient("@platformatic/kafka", error);
  }
}

/** Reads the Secrets. @throws PgEventsError PGE_SECRET_INVALID */
function connectionSettings({ kafka: { brokers, sasl, tls }, secrets, addresses }: KafkaProducersOptions) {
  return {
    ...(sasl === undefined
      ? {}
      : { sasl: { mechanism: MECHANISMS[sasl.mechanism], ...secrets.login(sasl) } }),
    ...(tls === undefined
      ? {}
      : {
          tls: { ...secrets.tls(tls), rejectUnauthorized: true, lookup: checkedLookup(addresses) },
          tlsServerName: brokers.some((broker) => isIP(hostOf(broker)) === 0),
        }),
  };
}

function hostOf(broker: string): string {
  return bareHost(broker.replace(/:\d+$/, ""));
}

function discard(producer: BytesProducer | undefined): void {
  producer?.close(true).catch(() => undefined);
}
