/** The small HTTP servers for metrics and probes. They share nothing with the work they report on. */
import { createServer, type Server } from "node:http";
import { bareHost } from "../core/bare-host.ts";
import { PgEventsError } from "../core/errors.ts";

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface RunningServer {
  readonly port: number;
  close(): Promise<void>;
}

/** An address `host:port` or `:port` (every address of the machine); port 0 picks a free one. @throws PgEventsError PGE_ADDRESS_INVALID */
export function parseAddress(text: string, what: string): { host: string; port: number } {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:]*):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) {
    throw new PgEventsError(
      "PGE_ADDRESS_INVALID",
      `${what} must be host:port or :port, not ${JSON.stringify(text)}.`,
    );
  }
  return { host: bareHost(match[1] ?? ""), port };
}

/**
 * Serves GET requests; whatever is malformed or slow is cut off and harms nobody else.
 * @param reply the answer for a path; null: 404
 * @throws PgEventsError PGE_ADDRESS_IN_USE
 */
export function serve(
  address: string,
  what: string,
  reply: (path: string) => Promise<Reply | null>,
): Promise<RunningServer> {
  const { host, port } = parseAddress(address, what);
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5000, keepAliveTimeout: 5000 },
    (request, response) => {
      const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
      void reply(path)
        .catch((): Reply => ({ status: 500, type: "text/plain", body: "internal error\n" }))
        .then((answer) => {
          const { status, type, body } = answer ?? { status: 404, type: "text/plain", body: "not found\n" };
          response.writeHead(status, { "content-type": type }).end(body);
        });
    },
  );
  server.on("clientError", (_error, socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    // After a start that succeeded this settles nothing: a connection that could not be accepted harms nobody.
    server.on("error", (error: NodeJS.ErrnoException) => {
      const text = error.code === "EADDRINUSE" ? "is in use" : `cannot be listened on (${error.code})`;
      reject(
        new PgEventsError("PGE_ADDRESS_IN_USE", `${what}: ${address} ${text}.`, {
          remedy: "Choose another address.",
          cause: error,
        }),
      );
    });
    server.listen({ port, ...(host === "" ? {} : { host }) }, () =>
      resolve({ port: (server.address() as { port: number }).port, close: () => closeServer(server) }),
    );
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
