/** Addresses of a host that may be connected to, for clients that make their own sockets. */
import { lookup } from "node:dns";
import { isIP } from "node:net";
import { bareHost } from "../core/bare-host.ts";
import { type AddressPolicy, checkedLookup, deniedLiteral } from "./address-check.ts";

/**
 * All addresses of a name, or the literal itself. Connect to what this gives, not to the name: it could have
 * another address by then.
 * @throws AddressDenied when one of them may not be called; the resolver's error
 */
export function checkedAddresses(host: string, policy: AddressPolicy): Promise<string[]> {
  const literal = bareHost(host);
  if (isIP(literal) !== 0) {
    const denied = deniedLiteral(literal, policy);
    return denied === null ? Promise.resolve([literal]) : Promise.reject(denied);
  }
  return new Promise((resolve, reject) => {
    checkedLookup(policy, lookup)(host, { all: true }, (error, addresses) => {
      if (error !== null) reject(error);
      else resolve([addresses].flat().map((found) => (typeof found === "string" ? found : found.address)));
    });
  });
}
