/** Addresses that the spec of a source does not have in it, but refers to. */
import type { CallbackSpec } from "../api/callback.ts";
import type { AddressRef } from "../api/http-address.ts";
import type { PgEventSource } from "../api/source.ts";
import type { PgEventSourceStatus } from "../api/status.ts";
import type { Problem } from "./observed.ts";

export interface ObservedAddresses {
  /** By the name of the callback, of those that were found. */
  readonly found: ReadonlyMap<string, string>;
  /** The first that was not. */
  readonly problem: Problem | null;
}

/** The callbacks whose address is to be looked up. */
export function referredAddresses({ callbacks }: PgEventSource["spec"]): { name: string; ref: AddressRef }[] {
  return callbacks.flatMap(({ name, http }) => (http?.ref === undefined ? [] : [{ name, ref: http.ref }]));
}

export function bindsSink({ http }: Pick<CallbackSpec, "http">): boolean {
  return http?.uriFrom === "SinkBinding";
}

/**
 * Those that were found, and for the others what was found before: an object that is gone for a while changes
 * no worker. What another spec referred to does not count.
 */
export function knownAddresses(
  { metadata }: PgEventSource,
  found: ReadonlyMap<string, string>,
  previous: PgEventSourceStatus | undefined,
): ReadonlyMap<string, string> {
  const resolved = previous?.conditions?.find(({ type }) => type === "CallbacksResolved");
  if (resolved?.observedGeneration !== metadata.generation) return found;
  const before = previous?.callbacks ?? [];
  const known = before.flatMap(({ name, uri }) => (uri === undefined ? [] : [[name, uri] as const]));
  return new Map([...known, ...found]);
}

/** What a worker is given: each reference in the place of which there is an address. Without one, its events wait. */
export function withAddresses(source: PgEventSource, known: ReadonlyMap<string, string>): PgEventSource {
  const callbacks = source.spec.callbacks.map((callback) => {
    const { name, http } = callback;
    if (http?.ref === undefined) return callback;
    const { ref: _ref, ...rest } = http;
    return withAddress({ ...callback, http: rest }, known.get(name));
  });
  return { ...source, spec: { ...source.spec, callbacks } };
}

/** RFC 2606: a name that leads nowhere. */
const NOWHERE = "http://callback.invalid/";

/** An HTTP callback with its address; suspended while there is none. */
export function withAddress(callback: CallbackSpec, uri: string | undefined): CallbackSpec {
  const { uriFrom: _from, ...http } = callback.http ?? {};
  const addressed = { ...http, uri: uri ?? NOWHERE } as CallbackSpec["http"];
  return { ...callback, http: addressed, suspend: callback.suspend || uri === undefined };
}
