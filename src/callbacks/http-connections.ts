/**
 * The connections of one callback: kept alive, HTTP/1.1 with one request at a time on each, or HTTP/2. Every address
 * is checked before it is connected to, but for those that a proxy resolves; certificates are always verified; proxies of
 * the environment are not used.
 */
import type { Socket } from "node:net";
import { buildConnector, Pool } from "undici";
import { type AddressPolicy, checkedLookup, deniedLiteral, type ResolveName } from "./address-check.ts";
import { connectThrough } from "./proxy.ts";
import type { TlsMaterial } from "./secret-values.ts";

/** Milliseconds an idle connection is kept when the server does not say for how long it keeps it. */
const IDLE_MS = 30_000;
/** The same when the server does say so: routers between forget connections that are idle for long. */
const MAX_IDLE_MS = 60_000;
/** Age in milliseconds at which a connection is replaced, so that new addresses and new pods of a name get their share. */
const MAX_AGE_MS = 300_000;

/** Requests at once over one connection of HTTP/2; receivers may take fewer. */
const STREAMS = 100;

export interface ConnectionOptions {
  readonly url: URL;
  readonly connections: number;
  /** Milliseconds for a connection, for an answer to begin, and between its parts. */
  readonly timeoutMs: number;
  /** Authorities to trust instead of the system's, and a certificate to show; asked for each new connection. */
  readonly tls: () => TlsMaterial;
  /** HTTP/2, where the receiver offers it. */
  readonly http2: boolean;
  readonly addresses: AddressPolicy;
  /** Null: none. */
  readonly proxy: URL | null;
  readonly resolve?: ResolveName | undefined;
}

export function connectionPool(options: ConnectionOptions): Pool {
  const { url, connections, timeoutMs, http2 } = options;
  return new Pool(url.origin, {
    connect: checkedConnector(options),
    connections: http2 ? Math.ceil(connections / STREAMS) : connections,
    ...(http2 ? { maxConcurrentStreams: STREAMS } : { pipelining: 1 }),
    allowH2: http2,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    keepAliveTimeout: IDLE_MS,
    keepAliveMaxTimeout: MAX_IDLE_MS,
    clientTtl: MAX_AGE_MS,
  });
}

function checkedConnector(options: ConnectionOptions): buildConnector.connector {
  let current: { readonly tls: TlsMaterial; readonly connect: buildConnector.connector } | null = null;
  return (target, callback) => {
    try {
      const denied = deniedLiteral(target.hostname, options.addresses);
      if (denied !== null) throw denied;
      const tls = options.tls();
      if (current === null || !sameMaterial(current.tls, tls)) {
        current = { tls, connect: connectorFor(tls, options) };
      }
      const { connect } = current;
      if (options.proxy === null) return connect(target, callback);
      connectThrough(options.proxy, options.url, options.timeoutMs).then(
        (httpSocket) => connect({ ...target, httpSocket: httpSocket as Socket }, callback),
        (error: Error) => callback(error, null),
      );
    } catch (error) {
      callback(error as Error, null);
    }
  };
}

function connectorFor(
  tls: TlsMaterial,
  { timeoutMs, addresses, resolve, http2 }: ConnectionOptions,
): buildConnector.connector {
  return buildConnector({
    timeout: timeoutMs,
    allowH2: http2,
    lookup: checkedLookup(addresses, resolve),
    rejectUnauthorized: true,
    ...tls,
  } as buildConnector.BuildOptions);
}

function sameMaterial(a: TlsMaterial, b: TlsMaterial): boolean {
  return a.ca === b.ca && a.cert === b.cert && a.key === b.key;
}
