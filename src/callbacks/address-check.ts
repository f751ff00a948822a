/**
 * Refuses to connect to addresses that a callback must never reach: cloud metadata and other link-local
 * addresses always, loopback unless allowed. Literals are checked before the connection; names inside
 * the look-up of the connection, so that the addresses checked are the only ones it can use (DNS
 * rebinding). Private ranges are fine: receivers inside the cluster are the usual case.
 */
import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import ipaddr from "ipaddr.js";
import { bareHost } from "../core/bare-host.ts";

export interface AddressPolicy {
  /** Loopback is right for a program on one machine, and wrong inside a cluster. */
  readonly allowLoopback: boolean;
}

/** Resolves a name to all its addresses, as `dns.lookup` with `all` does. */
export type ResolveName = (
  hostname: string,
  options: { readonly all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** Why the connection was not made; the message has the address, not the name. */
export class AddressDenied extends Error {
  readonly code = "address-denied";
}

/** Services of clouds outside the link-local ranges: AWS over IPv6, Alibaba, Azure, Oracle. */
const CLOUD_SERVICES = ["fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"].map(
  (range) => ipaddr.parseCIDR(range),
);

/** Why an address may not be called; null when it may. IPv4 in any of its IPv6 clothes counts as IPv4. */
export function addressProblem(address: string, policy: AddressPolicy): string | null {
  const parsed = plainAddress(ipaddr.process(address.replace(/%.*$/, "")));
  const range = parsed.range();
  if (range === "linkLocal") return "link-local, where clouds keep credentials";
  if (CLOUD_SERVICES.some((service) => service[0].kind() === parsed.kind() && parsed.match(service)))
    return "a cloud's own service";
  if (range === "unspecified" || range === "broadcast" || range === "multicast") return `${range}`;
  if (range === "loopback" && !policy.allowLoopback) return "loopback";
  return null;
}

/** A look-up for sockets; fails with AddressDenied when any address of the name may not be called. */
export function checkedLookup(policy: AddressPolicy, resolve: ResolveName = dnsLookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const [first] = addresses ?? [];
      const failure = error ?? (first === undefined ? noAddress() : firstDenied(addresses, policy));
      if (failure !== null || first === undefined) return callback(failure, "", 0);
      return options.all ? callback(null, addresses) : callback(null, first.address, first.family);
    });
  };
}

/** Sockets to a literal address make no look-up: null, or why this host may not be called. */
export function deniedLiteral(hostname: string, policy: AddressPolicy): AddressDenied | null {
  const address = bareHost(hostname);
  return isIP(address) === 0 ? null : firstDenied([{ address }], policy);
}

function firstDenied(
  addresses: readonly { readonly address: string }[],
  policy: AddressPolicy,
): AddressDenied | null {
  for (const { address } of addresses) {
    const problem = addressProblem(address, policy);
    if (problem !== null)
      return new AddressDenied(
        `the host of \`uri\` has the address ${address}, which may not be called (${problem})`,
      );
  }
  return null;
}

function noAddress(): NodeJS.ErrnoException {
  return Object.assign(new Error("the name has no address"), { code: "ENOTFOUND" });
}

/** The IPv4 address that an IPv6 address stands for (translation prefixes of RFC 6052 and 6145, 6to4, `::a.b.c.d`), else itself. */
function plainAddress(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  if (!(address instanceof ipaddr.IPv6)) return address;
  const bytes = address.toByteArray();
  const range = address.range();
  if (range === "rfc6052" || range === "rfc6145") return new ipaddr.IPv4(bytes.slice(12));
  if (range === "6to4") return new ipaddr.IPv4(bytes.slice(2, 6));
  const compatible =
    bytes.slice(0, 12).every((byte) => byte === 0) && bytes.slice(12, 15).some((byte) => byte !== 0);
  return compatible ? new ipaddr.IPv4(bytes.slice(12)) : address;
}
