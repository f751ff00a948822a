/** Writes to a source, by server-side apply. */
import { setTimeout as sleep } from "node:timers/promises";
import { API_VERSION, KIND } from "../core/api/source.ts";
import { isConflict, isNotFound } from "../kubernetes/api-error.ts";
import type { KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { assertMayWrite, SOURCES_API, type World } from "./world.ts";

/** Others write to the source at the same moment: the API server gives up after some rounds of its own. */
const ATTEMPTS = 5;
const PAUSE_MS = 100;

export interface SourceWrite {
  /** Whether `part` is all but the status, or the status. */
  readonly subresource?: "status";
  readonly fieldManager: string;
  /** What is written, beside apiVersion, kind, name and uid. */
  readonly part: { readonly metadata?: object; readonly status?: unknown };
}

/**
 * @returns the source as it is stored now; null when it is gone, or another one has its name
 * @throws KubernetesApiError, a conflict when it goes on for several attempts
 */
export async function writeSource<T extends KubernetesObject>(
  world: World,
  object: KubernetesObject,
  { subresource, fieldManager, part }: SourceWrite,
  signal: AbortSignal,
): Promise<T | null> {
  const { namespace = "", name, uid } = object.metadata;
  const path = (of?: string) => objectPath(SOURCES_API, namespace, "pgeventsources", name, of);
  const metadata = { ...part.metadata, name, namespace, uid };
  const body = { apiVersion: API_VERSION, kind: KIND, ...part, metadata };
  for (let attempt = 1; ; attempt += 1) {
    assertMayWrite(world);
    try {
      return await world.client.apply<T>(path(subresource), body, fieldManager, { signal });
    } catch (error) {
      if (isNotFound(error)) return null;
      if (!isConflict(error)) throw error;
      const live = await world.client.get<T>(path(), { signal }).catch((problem: unknown) => {
        if (isNotFound(problem)) return null;
        throw problem;
      });
      if (live?.metadata.uid !== uid) return null;
      if (attempt === ATTEMPTS) throw error;
      await sleep(PAUSE_MS * attempt * (0.5 + Math.random()), undefined, { signal });
    }
  }
}
