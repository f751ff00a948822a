/** How connections are made; long-running programs make theirs in logins.ts. Builds the driver's configuration, TLS included, by itself. */
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import pg from "pg";
import { PgEventsError } from "../core/errors.ts";
import { type DatabaseSettings, isLoopback, type TlsSettings } from "../core/settings/database.ts";
import { cutSilentConnections } from "./silent-connections.ts";

/** Milliseconds that one query of a worker may take: the first read of a long backlog needs some. */
const WORKER_QUERY_MS = 300_000;

/** What a connection is for; part of its application_name, `pg-events/<purpose>`. */
export type ConnectionPurpose = "build" | "worker" | "status" | "types";

/**
 * Connects. Nothing is set for the session: behind a transaction pooler that would reach the sessions
 * of others. What a piece of work needs it sets within its transactions.
 * @throws PgEventsError with the condition reason that fits (see `databaseError`)
 */
export async function connectDatabase(
  settings: DatabaseSettings,
  purpose: ConnectionPurpose,
): Promise<pg.Client> {
  const client = new GuardedClient(clientConfig(settings, purpose));
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw databaseError(error, settings);
  }
  return client;
}

/** A pool of a command. Connections are made when they are needed. */
export function createPool(settings: DatabaseSettings, purpose: ConnectionPurpose, max: number): pg.Pool {
  return poolOf({ ...clientConfig(settings, purpose), Client: GuardedClient, max });
}

/** A pool whose connections may end while nobody uses them. */
export function poolOf(config: pg.PoolConfig): pg.Pool {
  const clients = new Set<pg.Client>();
  const onMade = (client: pg.Client) => {
    clients.add(client);
    client.once("end", () => clients.delete(client));
  };
  const handedOn: GuardedConfig = { onMade };
  const pool = new pg.Pool({ ...config, ...handedOn, idleTimeoutMillis: 60_000, keepAlive: true });
  pool.on("error", () => undefined); // an idle connection ended: the next query gets a new one
  cutSilentConnections(pool, clients);
  return pool;
}

/** Runs `work` with a connection of the pool, which ends when that fails: there may be no answer on it any more. */
export async function withPoolClient<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    return await work(client);
  } catch (error) {
    failure = error as Error;
    throw error;
  } finally {
    client.release(failure);
  }
}

export interface GuardedConfig extends pg.ClientConfig {
  allowsWeakAuthentication?: boolean;
  /** Told of each connection of a pool before it is made. */
  onMade?: (client: pg.Client) => void;
}

/**
 * The driver answers whatever way of authentication the server asks for. This one gives a password in
 * clear, or its MD5, only to a server that TLS has verified, or that is this machine.
 */
export class GuardedClient extends pg.Client {
  /** As the server tells it at the login. */
  serverVersion: string | null = null;

  constructor(config: GuardedConfig = {}) {
    super(config);
    this.on("error", () => undefined); // the query under way, or the next one, reports it
    config.onMade?.(this);
    this.connection.on(
      "parameterStatus",
      ({ parameterName, parameterValue }: { parameterName: string; parameterValue: string }) => {
        if (parameterName === "server_version") this.serverVersion = parameterValue;
      },
    );
    if (config.allowsWeakAuthentication === true) return;
    for (const request of ["authenticationCleartextPassword", "authenticationMD5Password"]) {
      this.connection.prependListener(request, () => {
        // The driver's own handler asks for the password next, and gets this error for it.
        this.password = (() => Promise.reject(weakAuthentication())) as unknown as string;
      });
    }
  }
}

/** The version that the server told at the login, `18.4` say; null when it, or a pooler, did not. */
export function serverVersionOf(client: pg.Client): string | null {
  return client instanceof GuardedClient ? client.serverVersion : null;
}

/** The process that the server told at the login; another one answers behind a pooler. Null: none was told. */
export function sessionPidOf(client: pg.Client): number | null {
  return (client as { processID?: number | null }).processID ?? null;
}

function weakAuthentication(): PgEventsError {
  const message = "The server asks for the password in clear or as MD5, and TLS does not verify who it is.";
  return new PgEventsError("PGE_AUTHENTICATION_FAILED", message, {
    reason: "AuthenticationFailed",
    remedy: "Use scram-sha-256 on the server, or TLS mode VerifyFull.",
    disposition: "retry",
  });
}

export function clientConfig(settings: DatabaseSettings, purpose: ConnectionPurpose): GuardedConfig {
  const ssl = sslOptions(settings.tls, settings.host);
  return {
    host: settings.host,
    port: settings.port,
    database: settings.database,
    user: settings.user,
    ...(settings.password === undefined ? {} : { password: settings.password }),
    ssl: ssl ?? false,
    enableChannelBinding: ssl !== null,
    allowsWeakAuthentication:
      settings.tls.mode === "VerifyFull" || settings.tls.mode === "VerifyCA" || isLoopback(settings.host),
    application_name: `pg-events/${purpose}`,
    connectionTimeoutMillis: settings.connectTimeoutSeconds * 1000,
    keepAlive: true,
    query_timeout: purpose === "worker" ? WORKER_QUERY_MS : (settings.statementTimeoutSeconds + 5) * 1000,
  };
}

function sslOptions(tls: TlsSettings, host: string): ConnectionOptions | null {
  if (tls.mode === "Disable") return null;
  const serverName = tls.serverName ?? host;
  return {
    ...(isIP(serverName) === 0 ? { servername: serverName } : {}), // SNI knows no addresses
    rejectUnauthorized: tls.mode !== "Require",
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.clientCert === undefined ? {} : { cert: tls.clientCert }),
    ...(tls.clientKey === undefined ? {} : { key: tls.clientKey }),
    checkServerIdentity: (_host, certificate) =>
      tls.mode === "VerifyFull" ? checkServerIdentity(serverName, certificate) : undefined,
  };
}

/**
 * The error a user sees for one of the driver's: SQLSTATE and a fixed text by class, because the
 * server's message, detail and context can hold rows and statements.
 */
export function databaseError(error: unknown, settings?: DatabaseSettings): PgEventsError {
  if (error instanceof PgEventsError) return error;
  const { code = "" } = error as { code?: string };
  const where =
    settings === undefined
      ? "The database"
      : `Database ${settings.database} at ${settings.host}:${settings.port}`;
  const known = DATABASE_ERRORS.find(({ codes }) => codes.some((prefix) => code.startsWith(prefix)));
  if (known !== undefined) {
    return new PgEventsError(known.code, `${where} ${known.text} (SQLSTATE ${code}).`, {
      ...known,
      cause: error,
    });
  }
  if (/^[0-9A-Z]{5}$/.test(code) && error instanceof pg.DatabaseError) {
    return new PgEventsError("PGE_DATABASE_REFUSED", `${where} refused a statement (SQLSTATE ${code}).`, {
      reason: "BuildFailed",
      remedy: "The PostgreSQL log has the details.",
      disposition: "retry",
      cause: error,
    });
  }
  const what = code === "" ? networkText(error) : code;
  return new PgEventsError("PGE_CONNECTION_FAILED", `${where} cannot be reached: ${what}.`, {
    reason: "ConnectionFailed",
    remedy: "Check host, port, network and TLS settings.",
    disposition: "retry",
    cause: error,
  });
}

const DATABASE_ERRORS = [
  {
    codes: ["28"],
    code: "PGE_AUTHENTICATION_FAILED",
    reason: "AuthenticationFailed",
    text: "refused the role or its password",
    remedy: "Check user name and password.",
    disposition: "retry",
  },
  {
    codes: ["3D000"],
    code: "PGE_DATABASE_MISSING",
    reason: "ConnectionFailed",
    text: "does not exist",
    remedy: "Check the database name.",
    disposition: "retry",
  },
  {
    codes: ["25006", "57P03"],
    code: "PGE_DATABASE_READ_ONLY",
    reason: "DatabaseReadOnly",
    text: "is read-only, a replica, or starting up",
    remedy: "Connect to the primary.",
    disposition: "retry",
  },
  {
    codes: ["42501"],
    code: "PGE_PERMISSION_DENIED",
    reason: "PermissionDenied",
    text: "denies a right that is needed",
    remedy:
      "The role must own the captured tables, or hold TRIGGER on them, and hold CREATE on the database.",
    disposition: "retry",
  },
  {
    codes: ["55P03", "40P01", "57014"],
    code: "PGE_LOCK_TIMEOUT",
    reason: "LockTimeout",
    text: "kept a table locked for too long",
    remedy: "It is tried again; end long transactions that hold the table.",
    disposition: "retry",
  },
  {
    codes: ["53300", "57P", "08", "53"],
    code: "PGE_CONNECTION_FAILED",
    reason: "ConnectionFailed",
    text: "does not take connections now",
    remedy: "It is tried again.",
    disposition: "retry",
  },
] as const;

function networkText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (/timeout/i.test(message)) return "no answer in time";
  if (/SSL|certificate|TLS/i.test(message)) return message;
  return "the connection ended";
}
