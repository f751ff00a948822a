/**
 * The volumes of a pod as directories: emptyDir, secret, configMap and projected (Secrets, ConfigMaps,
 * tokens, downward API). As in a kubelet, a change replaces all files of a volume at once: they are links
 * through `..data`, which is a link that is renamed.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { ClusterRequests } from "../cluster-requests.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of the API, of which few fields are read
export type Pod = any;
// biome-ignore lint/suspicious/noExplicitAny: as above
type Source = any;
type Files = Map<string, Buffer>;

export interface PodVolume {
  readonly directory: string;
  /** Reads the sources again; files change only when these have. */
  refresh(): Promise<void>;
}

/** @throws Error when a source is missing and not optional, or of a kind that is not supported */
export async function podVolume(
  cluster: ClusterRequests,
  pod: Pod,
  volume: Source,
  directory: string,
): Promise<PodVolume> {
  mkdirSync(directory, { recursive: true });
  // Read by the pod's user; what encloses it is closed to others by the directory above.
  chmodSync(directory, volume.emptyDir === undefined ? 0o755 : 0o777);
  let written = "";
  const refresh = async () => {
    if (volume.emptyDir !== undefined) return;
    const files = await contents(cluster, pod, volume, directory);
    const state = JSON.stringify([...files].map(([path, data]) => [path, data.toString("base64")]));
    if (state !== written) replaceFiles(directory, files);
    written = state;
  };
  await refresh();
  return { directory, refresh };
}

async function contents(
  cluster: ClusterRequests,
  pod: Pod,
  volume: Source,
  directory: string,
): Promise<Files> {
  const files: Files = new Map();
  const sources: Source[] = volume.projected?.sources ?? [volume];
  for (const source of sources) {
    if (source.serviceAccountToken !== undefined) {
      files.set(
        source.serviceAccountToken.path,
        await token(cluster, pod, source.serviceAccountToken, directory),
      );
    } else if (source.downwardAPI !== undefined) {
      for (const { path, fieldRef } of source.downwardAPI.items)
        files.set(path, Buffer.from(podField(pod, fieldRef.fieldPath)));
    } else if (source.secret !== undefined) {
      await keys(cluster, pod, "secrets", source.secret, files);
    } else if (source.configMap !== undefined) {
      await keys(cluster, pod, "configmaps", source.configMap, files);
    } else
      throw new Error(`a volume of pod ${pod.metadata.name} is of a kind that this kubelet does not have`);
  }
  return files;
}

async function keys(
  cluster: ClusterRequests,
  pod: Pod,
  resource: string,
  source: Source,
  files: Files,
): Promise<void> {
  const name = source.name ?? source.secretName;
  const { status, body } = await cluster.request(
    "GET",
    `/api/v1/namespaces/${pod.metadata.namespace}/${resource}/${name}`,
  );
  if (status === 404 && source.optional === true) return;
  if (status !== 200) throw new Error(`${resource} ${name}: ${body.message}`);
  const data = Object.entries((body.data ?? {}) as Record<string, string>);
  const values = new Map(
    data.map(([key, text]) => [key, Buffer.from(text, resource === "secrets" ? "base64" : "utf8")]),
  );
  const items: { key: string; path: string }[] =
    source.items ?? [...values.keys()].map((key) => ({ key, path: key }));
  for (const { key, path } of items) {
    const value = values.get(key);
    if (value !== undefined) files.set(path, value);
    else if (source.optional !== true) throw new Error(`${resource} ${name} has no key ${key}`);
  }
}

/** One token for the life of the pod: tests are over before it is. */
const tokens = new Map<string, Buffer>();

async function token(cluster: ClusterRequests, pod: Pod, source: Source, directory: string): Promise<Buffer> {
  const known = tokens.get(directory);
  if (known !== undefined) return known;
  const { namespace, name, uid } = pod.metadata;
  const boundObjectRef = { kind: "Pod", apiVersion: "v1", name, uid };
  const spec = {
    expirationSeconds: Math.max(3600, source.expirationSeconds ?? 0),
    boundObjectRef,
    audiences: source.audience === undefined ? [] : [source.audience],
  };
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${pod.spec.serviceAccountName}/token`;
  const { status, body } = await cluster.request("POST", path, { body: { spec } });
  if (status !== 201) throw new Error(`token of ${pod.spec.serviceAccountName}: ${body.message}`);
  const made = Buffer.from(body.status.token);
  tokens.set(directory, made);
  return made;
}

/** Value of a `fieldRef`. */
export function podField(pod: Pod, path: string): string {
  const fields: Record<string, string> = {
    "metadata.name": pod.metadata.name,
    "metadata.namespace": pod.metadata.namespace,
    "metadata.uid": pod.metadata.uid,
    "spec.nodeName": pod.spec.nodeName,
    "spec.serviceAccountName": pod.spec.serviceAccountName,
    "status.podIP": "127.0.0.1",
    "status.hostIP": "127.0.0.1",
  };
  const value = fields[path];
  if (value === undefined) throw new Error(`this kubelet does not know the field ${path}`);
  return value;
}

function replaceFiles(directory: string, files: Files): void {
  const version = `..${process.hrtime.bigint()}`;
  for (const [path, data] of [["", Buffer.alloc(0)] as const, ...files]) {
    const file = join(directory, version, path);
    mkdirSync(path === "" ? file : dirname(file), { recursive: true });
    if (path !== "") writeFileSync(file, data, { mode: 0o444 });
  }
  symlinkSync(version, join(directory, "..next"));
  renameSync(join(directory, "..next"), join(directory, "..data"));
  const shown = new Set([...files.keys()].map((path) => path.split("/")[0] as string));
  for (const entry of readdirSync(directory)) {
    if (entry === "..data" || entry === version) continue;
    if (entry.startsWith("..") || !shown.has(entry))
      rmSync(join(directory, entry), { recursive: true, force: true });
  }
  for (const entry of shown)
    if (!existsSync(join(directory, entry))) symlinkSync(join("..data", entry), join(directory, entry));
}
