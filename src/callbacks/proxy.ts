/**
 * Which callbacks go through the proxy, and a connection through it. Only those with TLS do: who resolves the name is the
 * proxy then, but nobody without a certificate for that name gets an event, whatever address it was.
 */
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import ipaddr from "ipaddr.js";
import { Client } from "undici";
import { bareHost } from "../core/bare-host.ts";
import type { ProxySettings } from "../core/settings/proxy.ts";

const NAME = /^\.?[a-z0-9]([-a-z0-9_]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9_]*[a-z0-9])?)*$/i;

/** The proxy gave no connection; the message says why, and names neither it nor the receiver. */
export class ProxyProblem extends Error {
  readonly code = "proxy";
}

/** What is wrong with the address of a proxy; null: nothing. */
export function proxyAddressProblem(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== "http:" || url.hostname === "")
    return "It must be an address such as http://proxy:3128.";
  // It stands in each worker Deployment, for all to read who may read those.
  if (url.username !== "" || url.password !== "") return "Credentials in it are not supported.";
  return url.pathname === "/" && url.search === "" && url.hash === "" ? null : "Nothing may follow the port.";
}

/** What is wrong with a host that is called directly; null: nothing. */
export function directHostProblem(entry: string): string | null {
  const known = NAME.test(entry) || ipaddr.isValidCIDR(entry) || isIP(entry) !== 0;
  return known ? null : `${JSON.stringify(entry)} is no name, address or range of addresses.`;
}

/** The proxy for a receiver, or null when it is called directly: without TLS, a name without a dot, or one of `noProxy`. */
export function proxyFor(url: URL, proxy: ProxySettings | undefined): URL | null {
  if (proxy === undefined || url.protocol !== "https:") return null;
  const host = bareHost(url.hostname).replace(/\.$/, "");
  const own = isIP(host) === 0 && (!host.includes(".") || host.endsWith(".localhost"));
  const excepted = isIP(host) === 0 ? covers : contains;
  if (own || proxy.noProxy.some((entry) => excepted(entry, host))) return null;
  return new URL(proxy.httpsProxy);
}

function covers(entry: string, host: string): boolean {
  const name = entry.replace(/^\./, "").toLowerCase();
  return host === name || host.endsWith(`.${name}`);
}

function contains(entry: string, host: string): boolean {
  const address = ipaddr.process(host);
  if (isIP(entry) !== 0) return ipaddr.process(entry).toString() === address.toString();
  if (!ipaddr.isValidCIDR(entry)) return false;
  const range = ipaddr.parseCIDR(entry);
  return range[0].kind() === address.kind() && address.match(range);
}

/**
 * Asks the proxy for a connection to the receiver.
 * @param timeoutMs for all of it
 * @throws ProxyProblem
 */
export async function connectThrough(proxy: URL, receiver: URL, timeoutMs: number): Promise<Duplex> {
  const client = new Client(proxy.origin);
  const host = `${receiver.hostname}:${receiver.port || "443"}`;
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const { statusCode, socket } = await client.connect({ path: host, headers: { host }, signal });
    if (statusCode >= 200 && statusCode < 300) return socket;
    socket.on("error", () => undefined).destroy();
    throw new ProxyProblem(`the proxy gives no connection to the host of \`uri\`, it answers ${statusCode}`);
  } catch (error) {
    if (error instanceof ProxyProblem) throw error;
    const code = signal.aborted ? "no answer in time" : (error as { code?: string }).code;
    throw new ProxyProblem(`the proxy is not reached (${code ?? "no answer"})`);
  } finally {
    void client.destroy(); // the connection that it gave away is no more its own
  }
}
