/**
 * A TLS proxy in front of a real API server, where a test counts what a client does, changes its
 * requests, or answers in the server's place.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request as httpsRequest } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";
import { certificateAuthority } from "./certificates.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { TestEnd } from "./postgres.ts";

export interface ApiProxy {
  /** Where it listens, and the authority of its certificate (PEM). */
  readonly server: { readonly url: string; readonly ca: string };
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
  /** Milliseconds by which each request that is passed on is late. */
  delayMs: number;
  /** Resets every connection. */
  cut(): void;
  /** Ends the answers of all open watches in good order, as a load balancer may. */
  endWatches(): void;
}

/** Starts the proxy; it ends after the test. */
export async function startApiProxy(t: TestEnd, plane: ControlPlane): Promise<ApiProxy> {
  const authority = certificateAuthority("proxy");
  const agent = new Agent({ ca: plane.ca, keepAlive: true });
  const sockets = new Set<Socket>();
  /** Open watches, and what is passed on to them. */
  const watches = new Map<ServerResponse, { answer: IncomingMessage | null }>();
  const state = { connections: 0, requests: [] as string[], mostWatches: 0, openWatches: 0, delayMs: 0 };
  const intercept: { now: ApiProxy["intercept"] } = { now: null };
  const server = createServer(authority.issue(["127.0.0.1"]), (request, response) => {
    state.requests.push(`${request.method} ${request.url}`);
    if (isWatch(request)) {
      state.openWatches += 1;
      state.mostWatches = Math.max(state.mostWatches, state.openWatches);
      watches.set(response, { answer: null });
      response.once("close", () => {
        state.openWatches -= 1;
        watches.delete(response);
      });
    }
    if (intercept.now?.(request, response) === true) return;
    const note = (answer: IncomingMessage) => {
      const watch = watches.get(response);
      if (watch !== undefined) watch.answer = answer;
    };
    const pass = () => forward(plane, agent, request, response, note);
    if (state.delayMs > 0) setTimeout(pass, state.delayMs);
    else pass();
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
    server: { url, ca: authority.cert },
    config: () => throughProxy(plane, url, authority.cert),
    cut,
    endWatches: () => {
      for (const [response, { answer }] of watches) {
        answer?.unpipe(response);
        response.end();
      }
    },
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
  onAnswer: (answer: IncomingMessage) => void,
): void {
  const { method, headers } = request;
  const onward = httpsRequest(
    new URL(request.url ?? "/", plane.url),
    { method, headers, agent },
    (answer) => {
      if (response.writableEnded) return void answer.destroy(); // a watch that the test has ended meanwhile
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders(); // a watch may have no line for long
      answer.pipe(response);
      onAnswer(answer);
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
