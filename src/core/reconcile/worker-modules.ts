/** What the worker's pod needs for module callbacks. */
import type { PgEventSourceSpec } from "../api/source.ts";
import { threadLimitMegabytes } from "../delivery/module-memory.ts";

const DIRECTORY = "/etc/pg-events/modules";
/** A callback has two threads while an event is tried by itself. */
const THREADS = 2;

/** The keys of ConfigMaps that callbacks run, as files `<ConfigMap>/<key>`; all lists are empty when there are none. */
export function moduleVolume({ callbacks }: PgEventSourceSpec) {
  const references = callbacks.flatMap(({ module }) => module?.configMapRef ?? []);
  if (references.length === 0) return { env: [], volumeMounts: [], volumes: [] };
  const sources = [...Map.groupBy(references, ({ name }) => name)].map(([name, ofName]) => ({
    configMap: {
      name,
      // For the kubelet: the callback says what is missing, and the others are relayed.
      optional: true,
      items: [...new Set(ofName.map(({ key }) => key))].map((key) => ({ key, path: `${name}/${key}` })),
    },
  }));
  return {
    env: [{ name: "PG_EVENTS_MODULES_DIR", value: DIRECTORY }],
    volumeMounts: [{ name: "modules", mountPath: DIRECTORY, readOnly: true }],
    volumes: [{ name: "modules", projected: { defaultMode: 0o440, sources } }],
  };
}

/** Mebibytes that modules may take before their threads are ended. */
export function moduleMegabytes({ callbacks }: PgEventSourceSpec): number {
  const each = callbacks.map(({ module }) =>
    module === undefined ? 0 : THREADS * threadLimitMegabytes(module.memoryMegabytes),
  );
  return each.reduce((sum, megabytes) => sum + megabytes, 0);
}
