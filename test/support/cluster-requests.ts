/** Plain requests to a real API server, so that tests see exactly what it answers. */
import { Agent, request as httpsRequest } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";

export interface ApiAnswer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the server says; each test knows what it looks at
  body: any;
}

export interface ClusterRequests {
  server: string;
  /** @param as impersonates a user, such as system:serviceaccount:ns:name */
  request(
    method: string,
    path: string,
    options?: { body?: unknown; type?: string; as?: string },
  ): Promise<ApiAnswer>;
  close(): void;
}

export async function clusterRequests(kubeconfig: string): Promise<ClusterRequests> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error(`${kubeconfig} names no server`);
  const base: Parameters<KubeConfig["applyToHTTPSOptions"]>[0] = {};
  await config.applyToHTTPSOptions(base);
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ...tlsOptions(base) });
  return {
    server,
    close: () => agent.destroy(),
    request: (method, path, { body, type = "application/json", as } = {}) =>
      new Promise((resolve, reject) => {
        const headers = {
          ...(base.headers as Record<string, string>),
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": type }),
          ...(as === undefined ? {} : { "impersonate-user": as }),
        };
        const sent = httpsRequest(new URL(path, server), { method, headers, agent }, (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () => {
            const text = Buffer.concat(chunks).toString();
            const json = response.headers["content-type"]?.includes("json") === true;
            resolve({ status: response.statusCode ?? 0, body: json ? JSON.parse(text) : text });
          });
          response.on("error", reject);
        });
        sent.on("error", reject);
        sent.end(body === undefined ? undefined : JSON.stringify(body));
      }),
  };
}

const tlsOptions = ({
  ca,
  cert,
  key,
  rejectUnauthorized,
}: Parameters<KubeConfig["applyToHTTPSOptions"]>[0]) => ({
  ...(ca == null ? {} : { ca }),
  ...(cert == null ? {} : { cert }),
  ...(key == null ? {} : { key }),
  ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
});
