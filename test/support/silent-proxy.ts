/** Stands between a program and its database, and can fall silent as a lost path or a frozen host does: nothing ends. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TestEnd } from "./postgres.ts";

export interface SilentProxy {
  /** The database's URL by way of the proxy. */
  readonly url: string;
  /** Nothing comes through any more on the connections that are there; new ones work. */
  hush(): void;
  /** Nor on new ones, until `thaw`; what was sent meanwhile comes through then. */
  freeze(): void;
  thaw(): void;
}

interface Pair {
  readonly client: Socket;
  readonly upstream: Socket;
}

/** Ended after the test. */
export async function silentProxy(t: TestEnd, databaseUrl: string): Promise<SilentProxy> {
  const target = new URL(databaseUrl);
  const pairs = new Set<Pair>();
  let frozen = false;
  const stop = ({ client, upstream }: Pair) => {
    client.unpipe(upstream).pause();
    upstream.unpipe(client).pause();
  };
  const go = ({ client, upstream }: Pair) => {
    client.pipe(upstream);
    upstream.pipe(client);
  };
  const server = createServer((client) => {
    const pair = { client, upstream: connect(Number(target.port), target.hostname) };
    pairs.add(pair);
    if (!frozen) go(pair);
    for (const [one, other] of [
      [client, pair.upstream],
      [pair.upstream, client],
    ] as const) {
      one.on("error", () => undefined);
      one.on("close", () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const { client, upstream } of pairs) for (const one of [client, upstream]) one.destroy();
  });
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    hush: () => {
      for (const pair of pairs) stop(pair);
    },
    freeze: () => {
      frozen = true;
      for (const pair of pairs) stop(pair);
    },
    thaw: () => {
      frozen = false;
      for (const pair of pairs) go(pair);
    },
  };
}
