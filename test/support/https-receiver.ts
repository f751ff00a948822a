/** An HTTPS server, or one of HTTP/2, that takes every event. */
import { once } from "node:events";
import { createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import type { CertificateAuthority } from "./certificates.ts";
import type { TestEnd } from "./postgres.ts";

export interface HttpsReceiver {
  readonly port: number;
  /** Attribute `id` of the events, as they came, with the version of HTTP. */
  readonly received: readonly { readonly id: string; readonly version: string }[];
}

/** Ended after the test. @param hosts of its certificate */
export async function httpsReceiver(
  t: TestEnd,
  authority: CertificateAuthority,
  hosts: readonly string[],
  address = "127.0.0.1",
): Promise<HttpsReceiver> {
  const received: { id: string; version: string }[] = [];
  const server = createSecureServer({ ...authority.issue(hosts), allowHTTP1: true }, (request, response) => {
    received.push({ id: String(request.headers["ce-id"]), version: request.httpVersion });
    request.resume().on("end", () => response.writeHead(204).end());
  });
  const sockets = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => sockets.add(socket));
  server.on("tlsClientError", () => undefined);
  server.listen(0, address);
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (server.address() as AddressInfo).port, received };
}
