/** One address in front of several servers, as a service of Kubernetes or a virtual IP is: moved by a failover. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { TestEnd } from "./postgres.ts";

export interface Switchboard {
  /** The URL of a server with this address in its place. */
  through(url: string): string;
  /** Cuts every connection; new ones go to this port, with null to none. */
  switchTo(port: number | null): void;
}

export async function startSwitchboard(t: TestEnd, port: number): Promise<Switchboard> {
  let target: number | null = port;
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    return socket;
  };
  const server = createServer((client) => {
    keep(client);
    if (target === null) {
      client.destroy();
      return;
    }
    const upstream = keep(connect(target, "127.0.0.1"));
    client.pipe(upstream).pipe(client);
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  t.after(() => {
    server.close();
    cut();
  });
  return {
    through: (url) => {
      const changed = new URL(url);
      changed.port = String((server.address() as AddressInfo).port);
      return changed.href;
    },
    switchTo: (next) => {
      target = next;
      cut();
    },
  };
}
