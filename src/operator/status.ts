/** Writes the status of a source when it differs, and tells of what a user wants to know. */
import { isDeepStrictEqual } from "node:util";
import type { PgEventSource } from "../core/api/source.ts";
import type { PgEventSourceStatus } from "../core/api/status.ts";
import { withoutFlow } from "../core/reconcile/status-parts.ts";
import { transitions } from "../core/reconcile/transitions.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { writeSource } from "./source-write.ts";
import { STATUS_MANAGER, tell, type World } from "./world.ts";

export type Source = KubernetesObject & {
  /** As it is stored: not validated, without defaults. */
  readonly spec?: Partial<PgEventSource["spec"]>;
  readonly status?: PgEventSourceStatus;
};

/** Milliseconds between writes for nothing but how many events wait, and for how long. */
const FLOW_MS = 60_000;

/** @returns the source as it is stored now */
export async function writeStatus(
  world: World,
  object: Source,
  status: PgEventSourceStatus,
  signal: AbortSignal,
): Promise<Source> {
  const { namespace = "", name } = object.metadata;
  world.metrics.conditions(namespace, name, status);
  if (isDeepStrictEqual(object.status, status)) return object;
  const key = `${namespace}/${name}`;
  const flowsOnly = isDeepStrictEqual(withoutFlow(object.status ?? {}), withoutFlow(status));
  if (flowsOnly && performance.now() - (world.written.get(key) ?? Number.NEGATIVE_INFINITY) < FLOW_MS)
    return object;
  const write = { subresource: "status", fieldManager: STATUS_MANAGER, part: { status } } as const;
  const written = await writeSource<Source>(world, object, write, signal);
  if (written === null) return object; // our copy was old
  world.remember(written);
  world.written.set(key, performance.now());
  for (const event of transitions(object.status, status)) tell(world, object, event);
  return written;
}

/** RFC 3339, seconds. */
export function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
