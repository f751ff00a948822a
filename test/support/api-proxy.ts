/**
 * A TLS proxy in front of a real API server, where a test counts what a client does, changes its
 * requests, or answers in the server's place.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request as httpsRequest } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";
import { certificateAuthority } from "./certificates.ts";
import type { ControlPlane, TestEnd } from "./control-plane.ts";

export interface ApiProxy {
  /** The configuration of an admin who comes through the proxy. */
  readonly config: () => KubeConfig;
  /** TLS connections that were accepted so far. */
  readonly connections: number;
  /** `GET /path?query` of each request so far. */
  readonly requests: readonly string[];
  /** The most watches that were open at one time. */
  readonly mostWatches: number;
  /** Watches that are open now. */
  readonly openWatches: number;
  /** Sees each request first, and may change its url. True: it answers itself, or never. */
  intercept: ((request: IncomingMessage, response: ServerResponse) => boolean) | null;
  /** Resets every connection. */
  cut(): void;
}

/** Starts the proxy; it ends after the test. */
export async function startApiProxy(t: TestEnd, plane: ControlPlane): Promise<ApiProxy> {
  const authority = certificateAuthority("proxy");
  const agent = new Agent({ ca: plane.ca, keepAlive: true });
  const sockets = new Set<Socket>();
  const state = { connections: 0, requests: [] as string[], mostWatches: 0, openWatches: 0 };
  const intercept: { now: ApiProxy["intercept"] } = { now: null };
  const server = createServer(authority.issue(["127.0.0.1"]), (request, response) => {
    state.requests.push(`${request.method} ${request.url}`);
    if (isWatch(request)) {
      state.openWatches += 1;
      state.mostWatches = Math.max(state.mostWatches, state.openWatches);
      response.once("close", () => {
        state.openWatches -= 1;
      });
    }
    if (intercept.now?.(request, response) !== true) forward(plane, agent, request, response);
  });
  server.on("secureConnection", (socket: Socket) => {
    state.connections += 1;
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    cut();
    agent.destroy();
    server.close();
  });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const own = {
    config: () => throughProxy(plane, url, authority.cert),
    cut,
    get intercept() {
      return intercept.now;
    },
    set intercept(now) {
      intercept.now = now;
    },
  };
  return Object.defineProperties(state, Object.getOwnPropertyDescriptors(own)) as unknown as ApiProxy;
}

export function isWatch(request: IncomingMessage): boolean {
  return new URL(request.url ?? "/", "https://x").searchParams.has("watch");
}

/** Answers as the API server does when it refuses. */
export function refuse(response: ServerResponse, status: number, headers: Record<string, string> = {}): true {
  const body = {
    kind: "Status",
    apiVersion: "v1",
    status: "Failure",
    reason: "Refused",
    message: "refused",
    code: status,
  };
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  return true;
}

function forward(
  plane: ControlPlane,
  agent: Agent,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { method, headers } = request;
  const onward = httpsRequest(
    new URL(request.url ?? "/", plane.url),
    { method, headers, agent },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders(); // a watch may have no line for long
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    },
  );
  onward.on("error", () => response.destroy());
  response.once("close", () => onward.destroy());
  request.pipe(onward);
}

function throughProxy(plane: ControlPlane, server: string, ca: string): KubeConfig {
  const admin = new KubeConfig();
  admin.loadFromFile(plane.kubeconfig);
  const user = admin.getCurrentUser();
  if (user === null) throw new Error("the kubeconfig of the control plane has no user");
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: "proxy", server, caData: Buffer.from(ca).toString("base64"), skipTLSVerify: false },
    user,
  );
  return config;
}
