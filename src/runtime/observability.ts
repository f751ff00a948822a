/** `/metrics` for Prometheus, `/livez` and `/readyz` for the kubelet. */
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { type RunningServer, serve } from "./http-server.ts";

/** A check: null when all is well, else what is wrong, for the reader of the probe. */
export type Check = () => string | null;

/** Event loop delays above this many milliseconds mean that the process hangs. */
const HANG_MS = 10_000;

/** @param revision commit that the program was built from */
export function createRegistry(version: string, revision: string): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: "pgevents_build_info",
    help: "Always 1; the labels say what runs.",
    labelNames: ["version", "revision", "node_version"],
    registers: [registry],
  }).set({ version, revision, node_version: process.version }, 1);
  return registry;
}

export function serveMetrics(address: string, registry: Registry): Promise<RunningServer> {
  return serve(address, "--metrics-address", async (path) =>
    path === "/metrics" ? { status: 200, type: registry.contentType, body: await registry.metrics() } : null,
  );
}

/** `/livez`: this process hangs or cannot recover when it fails. `/readyz`: it can do its work now. */
export function serveProbes(
  address: string,
  checks: { live: Record<string, Check>; ready: Record<string, Check> },
): Promise<RunningServer> {
  return serve(address, "--probes-address", async (path) => {
    const selected = path === "/livez" ? checks.live : path === "/readyz" ? checks.ready : null;
    if (selected === null) return null;
    const results = Object.entries(selected).map(([name, check]) => ({ name, problem: check() }));
    const body = results.map(({ name, problem }) => `${name}: ${problem ?? "ok"}\n`).join("");
    return { status: results.some(({ problem }) => problem !== null) ? 503 : 200, type: "text/plain", body };
  });
}

/** Notices that the event loop has stood still for long. */
export function eventLoopCheck(): Check {
  let lastMs = performance.now();
  setInterval(() => {
    lastMs = performance.now();
  }, 1000).unref();
  return () => (performance.now() - lastMs > HANG_MS ? "the event loop hangs" : null);
}
