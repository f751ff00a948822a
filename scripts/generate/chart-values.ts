/**
 * The values of the Helm chart as one zod schema. charts/pg-events/values.yaml, values.schema.json
 * and README.md are written from it, so that they cannot differ.
 */
import { z } from "zod";
import { NO_PROXY } from "../../src/core/settings/proxy.ts";
import { metricsValues } from "./chart-values-metrics.ts";
import { asInPod, flag, group, labels, listAsInPod, port, text, whole } from "./value-fields.ts";

const NAMESPACE = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

export const chartValues = z.strictObject({
  image: group("Image of the operator; the workers run the same one.", {
    repository: text("ghcr.io/pg-events/pg-events", "Repository of the image."),
    tag: text("", "Tag. Empty: the chart's appVersion."),
    digest: z
      .string()
      .regex(/^(sha256:[0-9a-f]{64})?$/)
      .default("")
      .meta({ description: "Digest such as sha256:…; wins over the tag." }),
    pullPolicy: z
      .enum(["Always", "IfNotPresent", "Never"])
      .default("IfNotPresent")
      .meta({ description: "Pull policy of operator and workers." }),
  }),
  imagePullSecrets: z
    .array(z.strictObject({ name: z.string().min(1) }))
    .default([])
    .meta({
      description:
        "Secrets to pull the operator's image with; a worker's are in spec.worker.imagePullSecrets.",
    }),
  nameOverride: text("", "Replaces the chart's name in names and labels."),
  fullnameOverride: text("", "Replaces the whole prefix of names."),
  namespaceOverride: text("", "Namespace of the operator. Empty: the namespace of the release."),
  commonLabels: labels("Labels added to every object of the chart."),
  replicaCount: whole(0, 10, 2, "Operator pods. One leads, the others wait to take over."),
  watchNamespaces: z.array(z.string().max(63).regex(NAMESPACE)).default([]).meta({
    description:
      "Namespaces the operator works in, with a Role in each and no ClusterRole. Empty: all of them.",
  }),
  watchLabelSelector: text(
    "",
    "Only PgEventSources with these labels, such as team=data, so that two operators can share namespaces. Empty: all.",
  ),
  logLevel: z
    .enum(["Error", "Warn", "Info", "Debug"])
    .default("Info")
    .meta({ description: "How much the operator logs." }),
  maxConcurrentReconciles: whole(1, 100, 5, "PgEventSources worked on at once."),
  resyncSeconds: whole(
    10,
    86_400,
    60,
    "Seconds after which a PgEventSource is looked at again without a change.",
  ),
  secrets: group("How Secrets are treated.", {
    requireAllowLabel: flag(
      true,
      'Refuse to send the value of a Secret to a callback unless the Secret carries the label pgevents.dev/allow: "true".',
    ),
  }),
  callbacks: group("What callbacks may refer to (`http.ref`), besides Services of their own namespace.", {
    namespaces: z.array(z.string().max(63).regex(NAMESPACE)).default([]).meta({
      description:
        "Other namespaces whose Services and addressable objects any PgEventSource may refer to. Empty: none.",
    }),
    addressableClusterRole: text(
      "",
      "ClusterRole with the right to get objects that have an address, such as Knative's addressable-resolver. Empty: Services only.",
    ),
  }),
  proxy: group(
    "Proxy for https:// callbacks. All else, such as http:// callbacks, the API server, databases, NATS and Kafka, is called directly.",
    {
      httpsProxy: z
        .string()
        .regex(/^(http:\/\/[^/\s]+)?$/)
        .default("")
        .meta({ description: "Address of it, such as http://proxy:3128, without credentials. Empty: none." }),
      noProxy: z
        .array(z.string().regex(/^[A-Za-z0-9.:/_-]+$/))
        .default(NO_PROXY)
        .meta({
          description:
            "Names with all below them, addresses, and ranges such as 10.0.0.0/8, that are called directly. Names without a dot always are.",
        }),
    },
  ),
  leaderElection: group("The Lease by which the operator pods agree on a leader.", {
    id: text("", "Name of the Lease. Empty: the name of the Deployment."),
    leaseDurationSeconds: whole(2, 600, 15, "Seconds after which a silent leader is replaced."),
    renewDeadlineSeconds: whole(
      1,
      600,
      10,
      "Seconds after which a leader that cannot renew ends itself; less than leaseDurationSeconds.",
    ),
    retryPeriodSeconds: whole(
      1,
      600,
      2,
      "Seconds between attempts to renew or to take over; less than renewDeadlineSeconds.",
    ),
  }),
  crds: group("The CustomResourceDefinition.", {
    enabled: flag(true, "Install and upgrade it with the chart."),
    keep: flag(true, "Keep it, and with it every PgEventSource, when the release is uninstalled."),
  }),
  rbac: group("Rights in the cluster.", {
    create: flag(true, "Create the roles and bindings of the operator."),
    aggregateToView: flag(true, "Let the cluster role `view` read PgEventSources."),
    aggregateToEdit: flag(
      true,
      "Let the cluster roles `edit` and `admin` write PgEventSources. Who may write one can read the tables it captures.",
    ),
    aggregateToAdmin: flag(
      true,
      "Let the cluster role `admin` write PgEventSources. It may also while aggregateToEdit is true.",
    ),
  }),
  serviceAccount: group("ServiceAccount of the operator. Workers have none of their own and no token.", {
    create: flag(true, "Create it."),
    name: text("", "Its name. Empty: the name of the Deployment."),
    annotations: labels("Annotations of it."),
    labels: labels("Labels of it."),
  }),
  podAnnotations: labels("Annotations of the operator pods."),
  podLabels: labels("Labels of the operator pods."),
  extraArgs: z
    .array(z.string())
    .default([])
    .meta({ description: "Arguments added to `pg-events operator`." }),
  extraEnv: listAsInPod("Environment variables added to the operator, as in a container."),
  extraVolumes: listAsInPod("Volumes added to the operator pods."),
  extraVolumeMounts: listAsInPod("Mounts added to the operator's container."),
  extraObjects: listAsInPod("Objects installed along with the chart; templates in them are rendered."),
  resources: z
    .record(z.string(), z.unknown())
    .default({ requests: { cpu: "50m", memory: "96Mi" }, limits: { memory: "256Mi" } })
    .meta({ description: "Requests and limits of the operator's container." }),
  nodeSelector: labels("Labels a node must have."),
  tolerations: listAsInPod("Tolerations of the operator pods."),
  affinity: asInPod("Affinity of the operator pods."),
  topologySpreadConstraints: listAsInPod("How the operator pods spread over nodes and zones."),
  priorityClassName: text("", "Priority class of the operator pods."),
  runtimeClassName: text("", "Runtime class of the operator pods."),
  hostUsers: flag(true, "False gives the operator pods a user namespace of their own."),
  strategy: asInPod("How the Deployment replaces pods. Empty: RollingUpdate."),
  hostAliases: listAsInPod("Entries added to /etc/hosts of the operator pods."),
  dnsPolicy: text("", "DNS policy of the operator pods. Empty: ClusterFirst."),
  dnsConfig: asInPod("DNS settings of the operator pods."),
  terminationGracePeriodSeconds: whole(
    1,
    3600,
    30,
    "Seconds an operator pod has to finish what is under way.",
  ),
  revisionHistoryLimit: whole(0, 100, 3, "Old ReplicaSets to keep."),
  podDisruptionBudget: group(
    "Limits voluntary disruption of the operator; rendered only with more than one replica.",
    {
      enabled: flag(true, "Create it."),
      maxUnavailable: whole(1, 10, 1, "Pods that may be away at once."),
    },
  ),
  metrics: metricsValues,
  networkPolicy: group("NetworkPolicy of the operator.", {
    enabled: flag(
      true,
      "Create it: inbound metrics and probes only; outbound DNS, API server and databases only.",
    ),
    apiServerPorts: z
      .array(port)
      .min(1)
      .default([443, 6443])
      .meta({ description: "Ports of the API server." }),
    databasePorts: z.array(port).min(1).default([5432]).meta({ description: "Ports of the databases." }),
    extraEgress: listAsInPod("Outbound rules added to it."),
  }),
  global: z
    .record(z.string(), z.unknown())
    .default({})
    .meta({ description: "Helm's values for all charts of a release; not used here." }),
});
