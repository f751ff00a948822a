/** The worker Deployment of a source, as an object to apply. Makes it; somebody else sends it. */
import { API_VERSION, KIND, type PgEventSource } from "../api/source.ts";
import type { ProxySettings } from "../settings/proxy.ts";
import { secretReferences } from "./secret-references.ts";
import { moduleMegabytes, moduleVolume } from "./worker-modules.ts";

export const MANAGED_BY = "pgevents-operator";
const SOURCE_LABEL = "pgevents.dev/source";
/** Annotation of the pods that changes with the values of the Secrets they use. */
export const SECRETS_HASH = "pgevents.dev/secrets-hash";
export const SECRETS_DIRECTORY = "/etc/pg-events/secrets";
const USER_ID = 65_532;

export interface WorkerOptions {
  readonly image: string;
  readonly imagePullPolicy: string;
  readonly version: string;
  /** Changes when a value of a referenced Secret key does; says nothing about the values. */
  readonly secretsHash: string;
  /** What https:// callbacks go through. */
  readonly proxy?: ProxySettings | undefined;
}

/** Owner text of a source's capture in its database. */
export function captureOwner(source: PgEventSource): string {
  const { namespace, name, uid } = source.metadata;
  return `kubernetes:${namespace}/${name}/${uid}`;
}

export function workerSelector(source: PgEventSource): Record<string, string> {
  return { "app.kubernetes.io/name": "pgevents-worker", [SOURCE_LABEL]: source.metadata.name };
}

/** The selector as the scale subresource wants it. */
export function selectorText(source: PgEventSource): string {
  return Object.entries(workerSelector(source))
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

export function workerDeployment(source: PgEventSource, options: WorkerOptions) {
  const { metadata, spec } = source;
  const labels = {
    ...workerSelector(source),
    "app.kubernetes.io/instance": metadata.name,
    "app.kubernetes.io/component": "worker",
    "app.kubernetes.io/part-of": "pgevents",
    "app.kubernetes.io/managed-by": MANAGED_BY,
  };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: metadata.name,
      namespace: metadata.namespace,
      labels: { ...labels, "app.kubernetes.io/version": options.version },
      ownerReferences: [
        {
          apiVersion: API_VERSION,
          kind: KIND,
          name: metadata.name,
          uid: metadata.uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      replicas: spec.suspend ? 0 : spec.worker.replicas,
      selector: { matchLabels: workerSelector(source) },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: {
          labels: { ...spec.worker.labels, ...labels },
          annotations: { ...spec.worker.annotations, [SECRETS_HASH]: options.secretsHash },
        },
        spec: podSpec(source, options),
      },
    },
  };
}

function podSpec(source: PgEventSource, options: WorkerOptions) {
  const { worker } = source.spec;
  const scheduling = {
    nodeSelector: worker.nodeSelector,
    tolerations: worker.tolerations,
    affinity: worker.affinity,
    topologySpreadConstraints: worker.topologySpreadConstraints,
    priorityClassName: worker.priorityClassName,
    imagePullSecrets: worker.imagePullSecrets,
  };
  return {
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: worker.terminationGracePeriodSeconds,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER_ID,
      runAsGroup: USER_ID,
      fsGroup: USER_ID,
      seccompProfile: { type: "RuntimeDefault" },
    },
    ...Object.fromEntries(Object.entries(scheduling).filter(([, value]) => value !== undefined)),
    containers: [container(source, options)],
    volumes: [
      { name: "secrets", projected: { defaultMode: 0o440, sources: secretSources(source) } },
      ...moduleVolume(source.spec).volumes,
      { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
    ],
  };
}

function container(source: PgEventSource, { image, imagePullPolicy, proxy }: WorkerOptions) {
  const { worker } = source.spec;
  const drainSeconds = Math.max(1, worker.terminationGracePeriodSeconds - 5);
  const modules = moduleVolume(source.spec);
  return {
    name: "worker",
    image,
    imagePullPolicy,
    args: ["worker"],
    env: [
      { name: "PG_EVENTS_SOURCE", value: literalJson(workerSource(source)) },
      { name: "PG_EVENTS_OWNER", value: captureOwner(source) },
      { name: "PG_EVENTS_SECRETS_DIR", value: SECRETS_DIRECTORY },
      ...modules.env,
      ...proxyVariables(proxy),
      { name: "PG_EVENTS_METRICS_ADDRESS", value: ":9090" },
      { name: "PG_EVENTS_PROBES_ADDRESS", value: ":8081" },
      { name: "PG_EVENTS_DRAIN_SECONDS", value: String(drainSeconds) },
      { name: "PG_EVENTS_LOG_LEVEL", value: worker.logLevel },
      { name: "POD_NAME", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "metadata.name" } } },
    ],
    ports: [
      { name: "metrics", containerPort: 9090, protocol: "TCP" },
      { name: "probes", containerPort: 8081, protocol: "TCP" },
    ],
    startupProbe: probe("/livez", 30),
    livenessProbe: probe("/livez", 3),
    readinessProbe: probe("/readyz", 2),
    resources: worker.resources ?? defaultResources(source),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: [
      { name: "secrets", mountPath: SECRETS_DIRECTORY, readOnly: true },
      ...modules.volumeMounts,
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
}

function defaultResources({ spec }: PgEventSource) {
  return {
    requests: { cpu: "50m", memory: "96Mi" },
    limits: { memory: `${256 + moduleMegabytes(spec)}Mi` },
  };
}

/** JSON without any `$`: the kubelet would take `$(NAME)` in a value for a variable, and `$$` for `$`. */
function literalJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("$", "\\u0024");
}

/** The part of the source that the worker reads: a change of anything else must not roll it. */
function workerSource({ apiVersion, kind, metadata, spec }: PgEventSource) {
  const {
    suspend: _suspend,
    worker: _worker,
    deletionPolicy: _policy,
    deletionDeadlineSeconds: _deadline,
    ...rest
  } = spec;
  return { apiVersion, kind, metadata: { name: metadata.name, namespace: metadata.namespace }, spec: rest };
}

/** Exactly the keys that are referred to, at `<secret>/<key>`. */
function secretSources(source: PgEventSource) {
  const byName = Map.groupBy(secretReferences(source.spec), ({ name }) => name);
  return [...byName].map(([name, references]) => ({
    secret: {
      name,
      // All keys are optional for the kubelet: the operator says what is missing, and old pods keep running.
      optional: true,
      items: references.map(({ key }) => ({ key, path: `${name}/${key}` })),
    },
  }));
}

function probe(path: string, failureThreshold: number) {
  return { httpGet: { path, port: "probes" }, periodSeconds: 5, timeoutSeconds: 3, failureThreshold };
}

function proxyVariables(proxy: ProxySettings | undefined) {
  if (proxy === undefined) return [];
  return [
    { name: "PG_EVENTS_HTTPS_PROXY", value: proxy.httpsProxy },
    { name: "PG_EVENTS_NO_PROXY", value: proxy.noProxy.join(",") },
  ];
}
