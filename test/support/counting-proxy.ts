/** Stands between the driver and a server and notes connections, and each query that is sent: how often a program waits for an answer. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TestEnd } from "./postgres.ts";

export interface CountingProxy {
  readonly host: string;
  readonly port: number;
  /** Texts of the queries since `reset`, of all connections, in the order they were sent. */
  queries(): readonly string[];
  reset(): void;
  /** How many were made so far. */
  connections(): number;
  /** Resets every connection. */
  cut(): void;
}

/** Types of messages that carry the text of a query, and bytes before it. */
const SIMPLE = "Q".charCodeAt(0);
const PARSE = "P".charCodeAt(0);

/** Ended after the test. */
export async function countingProxy(
  t: TestEnd,
  target: { readonly host: string; readonly port: number },
): Promise<CountingProxy> {
  let seen: string[] = [];
  let connections = 0;
  const open = new Set<Socket>();
  const server = createServer((client) => {
    connections += 1;
    open.add(client);
    client.once("close", () => open.delete(client));
    const upstream = connect(target.port, target.host);
    let pending = Buffer.alloc(0);
    let started = false;
    client.on("data", (chunk) => {
      upstream.write(chunk);
      pending = Buffer.concat([pending, chunk]);
      // The first message has no type; every other one is a type, a length that counts itself, and the body.
      for (;;) {
        const header = started ? 1 : 0;
        if (pending.length < header + 4) break;
        const length = pending.readInt32BE(header) + header;
        if (pending.length < length) break;
        const body = pending.subarray(header + 4, length);
        if (started && pending[0] === SIMPLE) seen.push(body.toString("utf8", 0, body.length - 1));
        if (started && pending[0] === PARSE)
          seen.push(body.toString("utf8", body.indexOf(0) + 1, body.indexOf(0, body.indexOf(0) + 1)));
        started = true;
        pending = pending.subarray(length);
      }
    });
    upstream.pipe(client);
    client.on("end", () => upstream.end());
    client.once("close", () => upstream.destroy());
    for (const one of [client, upstream]) one.on("error", () => client.destroy() && upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => void server.close());
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    queries: () => seen,
    connections: () => connections,
    cut: () => {
      for (const client of open) client.resetAndDestroy();
    },
    reset: () => {
      seen = [];
    },
  };
}
