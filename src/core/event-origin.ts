import type { PgEventSource } from "./api/source.ts";
import type { EventOrigin } from "./event.ts";
import { schemaId } from "./schema-id.ts";

/** What all events of a source tell of where they come from. @param installationId of its capture */
export function originOf({ metadata }: Pick<PgEventSource, "metadata">, installationId: string): EventOrigin {
  const { name, namespace = "default" } = metadata;
  return {
    installationId,
    source: `/pgevents/${namespace}/${name}`,
    schemas: schemaId({ namespace, name }),
  };
}
