/**
 * The connections of one callback: kept alive, HTTP/1.1, one request at a time on each. Every address
 * is checked before it is connected to; certificates are always verified; proxies of the environment
 * are not used.
 */
import { buildConnector, Pool } from "undici";
import { type AddressPolicy, checkedLookup, deniedLiteral, type ResolveName } from "./address-check.ts";

/** Milliseconds an idle connection is kept when the server does not say for how long it keeps it. */
const IDLE_MS = 30_000;
/** The same when the server does say so: routers between forget connections that are idle for long. */
const MAX_IDLE_MS = 60_000;
/** Age in milliseconds at which a connection is replaced, so that new addresses and new pods of a name get their share. */
const MAX_AGE_MS = 300_000;

export interface ConnectionOptions {
  readonly url: URL;
  readonly connections: number;
  /** Milliseconds for a connection, for an answer to begin, and between its parts. */
  readonly timeoutMs: number;
  /** PEM of the authorities to trust instead of the system's; asked for each new connection. */
  readonly ca: () => string | undefined;
  readonly addresses: AddressPolicy;
  readonly resolve?: ResolveName | undefined;
}

export function connectionPool(options: ConnectionOptions): Pool {
  const { url, connections, timeoutMs } = options;
  return new Pool(url.origin, {
    connect: checkedConnector(options),
    connections,
    pipelining: 1,
    allowH2: false,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    keepAliveTimeout: IDLE_MS,
    keepAliveMaxTimeout: MAX_IDLE_MS,
    clientTtl: MAX_AGE_MS,
  });
}

function checkedConnector(options: ConnectionOptions): buildConnector.connector {
  let current: { readonly ca: string | undefined; readonly connect: buildConnector.connector } | null = null;
  return (target, callback) => {
    try {
      const denied = deniedLiteral(target.hostname, options.addresses);
      if (denied !== null) throw denied;
      const ca = options.ca();
      if (current === null || current.ca !== ca) current = { ca, connect: connectorFor(ca, options) };
      current.connect(target, callback);
    } catch (error) {
      callback(error as Error, null);
    }
  };
}

function connectorFor(
  ca: string | undefined,
  { timeoutMs, addresses, resolve }: ConnectionOptions,
): buildConnector.connector {
  return buildConnector({
    timeout: timeoutMs,
    allowH2: false,
    lookup: checkedLookup(addresses, resolve),
    rejectUnauthorized: true,
    ...(ca === undefined ? {} : { ca }),
  } as buildConnector.BuildOptions);
}
