/**
 * The connection of a callback to NATS. The client's own reconnecting is off: a connection that is lost is made
 * anew by the next attempt, with Secrets and addresses as they are then.
 */
import { isIP } from "node:net";
import type { JetStreamClient } from "@nats-io/jetstream";
import type { MsgHdrs, NatsConnection, NodeConnectionOptions } from "@nats-io/transport-node";
import type { NatsSpec } from "../core/api/nats.ts";
import { bareHost } from "../core/bare-host.ts";
import type { AddressPolicy } from "./address-check.ts";
import { checkedAddresses } from "./checked-addresses.ts";
import { missingClient } from "./client-package.ts";
import type { CallbackSecrets } from "./secret-values.ts";

/** Milliseconds between looks whether a silent server is still there; after two without an answer the connection is given up. */
const PING_MS = 10_000;
const DEFAULT_PORT = "4222";

export interface NatsClientPackages {
  readonly transport: typeof import("@nats-io/transport-node");
  readonly jetstream: typeof import("@nats-io/jetstream");
}

export interface OpenConnection {
  readonly nats: NatsConnection;
  readonly jetstream: JetStreamClient;
  readonly headers: () => MsgHdrs;
}

export interface NatsConnectionOptions {
  readonly nats: NatsSpec;
  readonly secrets: CallbackSecrets;
  readonly addresses: AddressPolicy;
  readonly timeoutMs: number;
  /** What the server's monitoring shows. */
  readonly name: string;
}

export async function loadNatsClient(): Promise<NatsClientPackages> {
  try {
    // CommonJS: the bundle has it as the default export only.
    const [transport, jetstream] = await Promise.all([
      import("@nats-io/transport-node"),
      import("@nats-io/jetstream"),
    ]);
    return { transport: transport.default, jetstream: jetstream.default };
  } catch (error) {
    return missingClient("@nats-io/transport-node @nats-io/jetstream", error);
  }
}

/** Keeps one connection; attempts share it. */
export class NatsConnector {
  readonly #options: NatsConnectionOptions;
  #connection: Promise<OpenConnection> | null = null;

  constructor(options: NatsConnectionOptions) {
    this.#options = options;
    connectionSettings(options); // a missing Secret shows at the start, not at the first event
  }

  /** @throws PgEventsError, AddressDenied, or what the client throws for the last server that was tried */
  async open(): Promise<OpenConnection> {
    this.#connection ??= this.#connect();
    const made = this.#connection;
    try {
      const open = await made;
      if (!open.nats.isClosed()) return open;
    } catch (error) {
      if (this.#connection === made) this.#connection = null;
      throw error;
    }
    if (this.#connection === made) this.#connection = null;
    return this.open();
  }

  async close(): Promise<void> {
    const open = await this.#connection?.catch(() => null);
    await open?.nats.close();
  }

  async #connect(): Promise<OpenConnection> {
    const client = await loadNatsClient();
    const { servers } = this.#options.nats;
    let last: unknown;
    const first = Math.floor(Math.random() * servers.length);
    for (const index of servers.keys()) {
      const server = servers[(first + index) % servers.length] as string;
      try {
        return await this.#connectTo(server, client);
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  async #connectTo(server: string, { transport, jetstream }: NatsClientPackages): Promise<OpenConnection> {
    const { protocol, host, port } = partsOf(server);
    const { nats, addresses, timeoutMs } = this.#options;
    const settings = connectionSettings(this.#options);
    const plain = protocol === "nats" && nats.tls === undefined;
    let last: unknown;
    for (const address of await checkedAddresses(host, addresses)) {
      const options: NodeConnectionOptions = {
        servers: `${isIP(address) === 6 ? `[${address}]` : address}:${port}`,
        name: this.#options.name,
        timeout: timeoutMs,
        reconnect: false,
        ignoreClusterUpdates: true,
        pingInterval: PING_MS,
        noAsyncTraces: true,
        ...settings.login(transport),
      };
      const tls = { ...settings.tls, ...(isIP(host) === 0 ? { servername: host } : { host }) };
      try {
        const connection = await connect(transport, { ...options, tls }, plain);
        return {
          nats: connection,
          jetstream: jetstream.jetstream(connection, { timeout: timeoutMs }),
          headers: () => transport.headers(),
        };
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }
}

/** By TLS where the server has it; without, only if that is fine. */
async function connect(
  { connect: open }: NatsClientPackages["transport"],
  options: NodeConnectionOptions,
  plain: boolean,
): Promise<NatsConnection> {
  try {
    return await open(options);
  } catch (error) {
    if (!plain || !/does not support 'tls'/.test((error as Error).message)) throw error;
    return open({ ...options, tls: null });
  }
}

/** Reads the Secrets. @throws PgEventsError PGE_SECRET_INVALID */
function connectionSettings({ nats: { auth = {}, tls }, secrets }: NatsConnectionOptions) {
  const { login, tokenSecretRef, nkeySecretRef, credsSecretRef } = auth;
  const user = login && secrets.login(login);
  const token = tokenSecretRef && secrets.text(tokenSecretRef);
  const seed = nkeySecretRef && secrets.natsSeed(nkeySecretRef);
  const creds = credsSecretRef && `${secrets.natsCredentials(credsSecretRef)}\n`; // its last line must have an end
  return {
    tls: tls === undefined ? {} : secrets.tls(tls),
    login: (client: NatsClientPackages["transport"]): NodeConnectionOptions => {
      if (user !== undefined) return { user: user.username, pass: user.password };
      if (token !== undefined) return { token };
      if (seed !== undefined) return { authenticator: client.nkeyAuthenticator(Buffer.from(seed)) };
      if (creds !== undefined) return { authenticator: client.credsAuthenticator(Buffer.from(creds)) };
      return {};
    },
  };
}

function partsOf(server: string): { protocol: string; host: string; port: string } {
  const [, protocol = "", host = "", port = DEFAULT_PORT] =
    /^(nats|tls):\/\/(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(server) ?? [];
  return { protocol, host: bareHost(host), port };
}
