/**
 * The ConfigMap with the SQL that somebody has to run (`spec.capture.install: Manual`). Its name follows from
 * its content, so that it is only ever created: the operator may not change ConfigMaps.
 */
import { gzipSync } from "node:zlib";
import { API_VERSION, KIND, type PgEventSource } from "../core/api/source.ts";
import { digest } from "../core/capture/fingerprint.ts";

/** Bytes of content; the API server takes 1 MiB for the whole object. */
const MAX_BYTES = 700 * 1024;

/** @param script the whole text for psql */
export function installSqlConfigMap({ metadata }: PgEventSource, script: string) {
  const { name, namespace, uid } = metadata;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: `${name}-sql-${digest(script).slice(0, 8)}`,
      namespace,
      labels: {
        "pgevents.dev/source": name,
        "app.kubernetes.io/name": "pgevents-sql",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": "pgevents",
      },
      ownerReferences: [{ apiVersion: API_VERSION, kind: KIND, name, uid, controller: true }],
    },
    immutable: true,
    ...content(script),
  };
}

function content(script: string): { data: Record<string, string> } | { binaryData: Record<string, string> } {
  if (Buffer.byteLength(script) <= MAX_BYTES) return { data: { "install.sql": script } };
  const packed = gzipSync(script).toString("base64");
  if (packed.length <= MAX_BYTES) return { binaryData: { "install.sql.gz": packed } };
  const text = "The SQL is too large for a ConfigMap. Print it: pg-events build --manifest … --dry-run\n";
  return { data: { "README.txt": text } };
}
