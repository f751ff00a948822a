/**
 * Refuses to connect to addresses that a callback must never reach: cloud metadata and other link-local
 * addresses always, loopback unless allowed. The check sits in the name look-up of the connection, so
 * that the address checked is the one connected to (DNS rebinding), and literals are checked as well.
 */
import { type LookupAddress, lookup as dnsLookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import ipaddr from "ipaddr.js";

/** Metadata services outside the link-local ranges. */
const METADATA = new Set(["fd00:ec2::254", "100.100.100.200"]);

export interface AddressPolicy {
  /** Loopback is right for a program on one machine, and wrong inside a cluster. */
  readonly allowLoopback: boolean;
}

/** Why an address may not be called; null when it may. IPv4 in IPv6 clothes counts as IPv4. */
export function addressProblem(address: string, policy: AddressPolicy): string | null {
  const parsed = ipaddr.process(address.replace(/%.*$/, ""));
  const range = parsed.range();
  if (range === "linkLocal" || METADATA.has(parsed.toString())) return "link-local or cloud metadata";
  if (range === "unspecified" || range === "broadcast" || range === "multicast") return `${range} address`;
  if (range === "loopback" && !policy.allowLoopback) return "loopback";
  return null;
}

export class AddressDenied extends Error {
  readonly code = "PGE_ADDRESS_DENIED";
}

/** A look-up for sockets that fails when any address of the name may not be called. */
export function checkedLookup(policy: AddressPolicy, resolve: typeof dnsLookup = dnsLookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error) return callback(error, "", 0);
      const denied = addresses.find(({ address }) => addressProblem(address, policy) !== null);
      if (denied !== undefined) return callback(new AddressDenied("address denied"), "", 0);
      if (options.all) return callback(null, addresses);
      const first = addresses[0];
      return callback(first === undefined ? new AddressDenied("no address") : null, first?.address ?? "", first?.family ?? 0);
    });
  };
}

/** Sockets to a literal address make no look-up: check those here. @throws AddressDenied */
export function checkLiteral(hostname: string, policy: AddressPolicy): void {
  const host = hostname.replace(/^\[|\]$/g, "");
  if (isIP(host) !== 0 && addressProblem(host, policy) !== null) throw new AddressDenied("address denied");
}
