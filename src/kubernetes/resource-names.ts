/** Under which name of resource the API server serves a kind, as its discovery says. */
import { isNotFound } from "./api-error.ts";
import type { KubernetesClient } from "./client.ts";

/** One page of discovery; a group version has few resources. */
interface ResourceList {
  readonly resources: readonly {
    readonly name: string;
    readonly kind: string;
    readonly namespaced: boolean;
  }[];
}

/** Kinds that are remembered; they never change their resource, and who asks for more than these starts anew. */
const REMEMBERED = 256;

export class ResourceNames {
  readonly #client: KubernetesClient;
  readonly #known = new Map<string, string>();

  constructor(client: KubernetesClient) {
    this.#client = client;
  }

  /** @param apiVersion `group/version` @returns null when there is no such kind with objects in namespaces */
  async of(apiVersion: string, kind: string, signal: AbortSignal): Promise<string | null> {
    const id = `${apiVersion}/${kind}`;
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const list = await this.#client.get<ResourceList>(path, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return { resources: [] };
      throw error;
    });
    const found = list.resources.find(
      (one) => one.kind === kind && one.namespaced && !one.name.includes("/"),
    );
    if (found === undefined) return null;
    if (this.#known.size >= REMEMBERED) this.#known.clear();
    this.#known.set(id, found.name);
    return found.name;
  }
}
