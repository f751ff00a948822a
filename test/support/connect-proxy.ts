/** An HTTP proxy of its own: makes connections for CONNECT, where the test says, and notes what it was asked for. */
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { TestEnd } from "./postgres.ts";

/** Where a host and port lead to; or the status of a refusal; or no answer at all. */
type Route = { readonly host?: string; readonly port: number } | number | "hang";

export interface ConnectProxy {
  readonly url: string;
  /** `host:port`, in the order they were asked for. */
  readonly asked: readonly string[];
  /** Connections that it holds. */
  open(): number;
  close(): Promise<void>;
}

/** Ended after the test. @param host where it listens */
export async function connectProxy(
  t: TestEnd,
  route: (asked: string) => Route,
  host = "127.0.0.1",
): Promise<ConnectProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((_, response) => response.writeHead(405).end());
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket)).on("error", () => undefined);
  });
  server.on("connect", ({ url = "" }, client: Socket, head: Buffer) => {
    asked.push(url);
    const where = route(url);
    if (where === "hang") {
      client.resume().once("end", () => client.destroy());
      return;
    }
    if (typeof where === "number") {
      client.end(`HTTP/1.1 ${where} No\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const receiver = connect(where.port, where.host ?? "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      receiver.write(head);
      receiver.pipe(client).pipe(receiver);
    });
    receiver.on("error", () => client.destroy());
    client.once("close", () => receiver.destroy());
    receiver.once("close", () => client.destroy());
  });
  server.listen(0, host);
  await once(server, "listening");
  const close = async () => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  t.after(close);
  return {
    url: `http://${host}:${(server.address() as AddressInfo).port}`,
    asked,
    open: () => sockets.size,
    close,
  };
}
