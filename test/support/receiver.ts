/**
 * A real HTTP receiver that keeps every request and every CloudEvent it gets, in all three formats.
 * `close` and `reopen` on the same port make an outage.
 */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestEnd } from "./postgres.ts";
import { eventually } from "./processes.ts";

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The CloudEvents in it; none when it is not a CloudEvent. */
  readonly events: readonly ReceivedEvent[];
}

export interface ReceivedEvent {
  readonly id: string;
  readonly type: string;
  readonly source: string;
  readonly subject: string;
  readonly time: string;
  readonly partitionkey: string;
  readonly sequence: string;
  /** Of an event that is delivered again; as text in headers. */
  readonly pgeventsreplay?: boolean | string;
  readonly pgeventsdeadlettererror?: string;
  readonly data: EventData;
  /** Path of the request that brought it. */
  readonly callbackPath: string;
}

export interface EventData {
  readonly operation: string;
  readonly relation: { readonly schema: string; readonly table: string };
  /** Values of the primary key's columns. */
  readonly key: readonly unknown[] | null;
  /** Only when the update changed the key. */
  readonly oldKey?: readonly unknown[];
  readonly old: Record<string, unknown> | null;
  readonly new: Record<string, unknown> | null;
  readonly transaction: { readonly id: string };
  readonly context: Record<string, unknown>;
}

/** The answer to a request, after `delayMs`; `hang` never answers, `reset` cuts the connection. */
export type Answer =
  | number
  | {
      readonly status: number;
      readonly headers?: Record<string, string>;
      readonly body?: string;
      readonly delayMs?: number;
    }
  | "hang"
  | "reset";

export interface ReceiverOptions {
  /** Default: 204 to everything. A request is in `requests` before it is answered. */
  readonly respond?: (request: ReceivedRequest, index: number) => Answer | Promise<Answer>;
  readonly port?: number;
  /** Default: 127.0.0.1, which workers in a cluster refuse to call. */
  readonly host?: string;
}

export interface Receiver {
  readonly url: string;
  readonly requests: readonly ReceivedRequest[];
  /** Of requests that were answered 2xx only. */
  readonly events: readonly ReceivedEvent[];
  /** How many of `events` had come before, by id. */
  readonly duplicates: number;
  /** Connections accepted so far. */
  readonly connections: number;
  /** Waits for a number of events, or until they satisfy a predicate. */
  waitFor(
    condition: number | ((events: readonly ReceivedEvent[]) => boolean),
    timeoutMs?: number,
  ): Promise<readonly ReceivedEvent[]>;
  /** Stops listening and cuts every connection. */
  close(): Promise<void>;
  /** Listens again on the same port. */
  reopen(): Promise<void>;
}

/** Workers in a cluster do not call loopback addresses. */
export function reachableAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const found = addresses.find(({ family, internal }) => family === "IPv4" && !internal);
  if (found === undefined) throw new Error("This test needs a network interface besides loopback.");
  return found.address;
}

/** Starts on a free loopback port; closed after the test. */
export async function startReceiver(t: TestEnd, options: ReceiverOptions = {}): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  const events: ReceivedEvent[] = [];
  const respond = options.respond ?? (() => 204);
  const handle = async (incoming: IncomingMessage, response: ServerResponse) => {
    const request = await readRequest(incoming);
    const answer = await respond(request, requests.push(request) - 1);
    if (typeof answer === "object" && answer.delayMs !== undefined) await sleep(answer.delayMs);
    if (isSuccess(answer)) events.push(...request.events);
    send(response, answer);
  };
  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => response.destroy());
  });
  let connections = 0;
  server.on("connection", () => {
    connections += 1;
  });
  const host = options.host ?? "127.0.0.1";
  await listen(server, options.port ?? 0, host);
  const { port } = server.address() as AddressInfo;
  t.after(() => close(server));
  return {
    url: `http://${host}:${port}`,
    requests,
    events,
    get duplicates() {
      return events.length - new Set(events.map(({ id }) => id)).size;
    },
    get connections() {
      return connections;
    },
    waitFor: (condition, timeoutMs = 20_000) => {
      const met = typeof condition === "number" ? () => events.length >= condition : () => condition(events);
      const what = typeof condition === "number" ? `${condition} events` : "the events that are expected";
      return eventually(
        () => {
          if (!met()) throw new Error(`${events.length} events, ${requests.length} requests came`);
          return events;
        },
        { timeoutMs, what },
      );
    },
    close: () => close(server),
    reopen: () => listen(server, port, host),
  };
}

async function readRequest(incoming: IncomingMessage): Promise<ReceivedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  const { method = "", url: path = "/", headers } = incoming;
  return { method, path, headers, body, events: eventsOf(path, headers, body) };
}

const ATTRIBUTES = ["id", "type", "source", "subject", "time", "partitionkey", "sequence"] as const;
export const MARKS = ["pgeventsreplay", "pgeventsdeadlettererror"] as const;

type JsonEvent = Omit<ReceivedEvent, "callbackPath">;

function eventsOf(callbackPath: string, headers: IncomingHttpHeaders, body: string): ReceivedEvent[] {
  if (headers["ce-id"] !== undefined) {
    const there = [...ATTRIBUTES, ...MARKS.filter((name) => headers[`ce-${name}`] !== undefined)];
    const attributes = there.map((name) => [name, decodeURIComponent(String(headers[`ce-${name}`]))]);
    return [{ ...Object.fromEntries(attributes), data: JSON.parse(body) as EventData, callbackPath }];
  }
  if (!headers["content-type"]?.startsWith("application/cloudevents")) return [];
  const parsed = JSON.parse(body) as JsonEvent | JsonEvent[];
  return [parsed].flat().map((event) => ({ ...event, callbackPath }));
}

function isSuccess(answer: Answer): boolean {
  const status = typeof answer === "object" ? answer.status : answer;
  return typeof status === "number" && status >= 200 && status < 300;
}

function send(response: ServerResponse, answer: Answer): void {
  if (answer === "hang") return;
  if (answer === "reset") {
    response.socket?.resetAndDestroy();
    return;
  }
  const { status, headers = {}, body = "" } = typeof answer === "number" ? { status: answer } : answer;
  response.writeHead(status, headers).end(body);
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
