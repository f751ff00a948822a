/** Writes the status of a source when it differs, and tells of what a user wants to know. */
import { isDeepStrictEqual } from "node:util";
import { API_VERSION, KIND } from "../core/api/source.ts";
import type { PgEventSourceStatus } from "../core/api/status.ts";
import { transitions } from "../core/reconcile/transitions.ts";
import { isConflict, isNotFound } from "../kubernetes/api-error.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { assertMayWrite, SOURCES_API, STATUS_MANAGER, tell, type World } from "./world.ts";

export type Source = KubernetesObject & { readonly status?: PgEventSourceStatus };

/** @returns the source as it is stored now */
export async function writeStatus(
  world: World,
  object: Source,
  status: PgEventSourceStatus,
  signal: AbortSignal,
): Promise<Source> {
  const { namespace = "", name, uid } = object.metadata;
  world.metrics.conditions(namespace, name, status);
  if (isDeepStrictEqual(object.status, status)) return object;
  assertMayWrite(world);
  const path = objectPath(SOURCES_API, namespace, "pgeventsources", name, "status");
  const body = { apiVersion: API_VERSION, kind: KIND, metadata: { name, namespace, uid }, status };
  try {
    const written = await world.client.apply<Source>(path, body, STATUS_MANAGER, { signal });
    world.remember(object, written);
    for (const event of transitions(object.status, status)) tell(world, object, event);
    return written;
  } catch (error) {
    if (isNotFound(error) || isConflict(error)) return object; // it went, or another has its name: our copy was old
    throw error;
  }
}

/** RFC 3339, seconds. */
export function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
