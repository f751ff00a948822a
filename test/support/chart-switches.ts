/** Every value of the chart, set to something else than its default; beside it what it needs to have an effect. */
const RULE = { enabled: true };
const SERVICE_MONITOR = { enabled: true };
const POD_MONITOR = { enabled: true };
const WORKER_MONITOR = { enabled: true };
const RELABELING = [{ action: "labeldrop", regex: "pod" }];
const METRIC_RELABELING = [{ action: "drop", sourceLabels: ["__name__"], regex: "nodejs_.*" }];

export const SWITCHES: Record<string, object> = {
  "image.repository": { image: { repository: "registry.example.com/pg-events" } },
  "image.tag": { image: { tag: "9" } },
  "image.digest": { image: { digest: `sha256:${"a".repeat(64)}` } },
  "image.pullPolicy": { image: { pullPolicy: "Always" } },
  imagePullSecrets: { imagePullSecrets: [{ name: "registry" }] },
  nameOverride: { nameOverride: "events" },
  fullnameOverride: { fullnameOverride: "events" },
  namespaceOverride: { namespaceOverride: "elsewhere" },
  commonLabels: { commonLabels: { team: "data" } },
  "replicaCount 1": { replicaCount: 1 },
  "replicaCount 3": { replicaCount: 3 },
  watchNamespaces: { watchNamespaces: ["shop"] },
  watchLabelSelector: { watchLabelSelector: "team in (data,shop),!paused" },
  logLevel: { logLevel: "Debug" },
  maxConcurrentReconciles: { maxConcurrentReconciles: 9 },
  resyncSeconds: { resyncSeconds: 600 },
  "secrets.requireAllowLabel": { secrets: { requireAllowLabel: false } },
  "callbacks.namespaces": { callbacks: { namespaces: ["warehouse"] } },
  "callbacks.namespaces, with watchNamespaces": {
    watchNamespaces: ["shop"],
    callbacks: { namespaces: ["warehouse"] },
  },
  "callbacks.addressableClusterRole": { callbacks: { addressableClusterRole: "addressable-resolver" } },
  "callbacks.addressableClusterRole, with watchNamespaces": {
    watchNamespaces: ["shop"],
    callbacks: { addressableClusterRole: "addressable-resolver" },
  },
  "proxy.httpsProxy": { proxy: { httpsProxy: "http://proxy.example.com:3128" } },
  "proxy.noProxy": { proxy: { httpsProxy: "http://proxy:3128", noProxy: [".example.com", "10.0.0.0/8"] } },
  "leaderElection.id": { leaderElection: { id: "lease" } },
  "leaderElection.leaseDurationSeconds": { leaderElection: { leaseDurationSeconds: 30 } },
  "leaderElection.renewDeadlineSeconds": { leaderElection: { renewDeadlineSeconds: 12 } },
  "leaderElection.retryPeriodSeconds": { leaderElection: { retryPeriodSeconds: 5 } },
  "crds.enabled": { crds: { enabled: true } },
  "crds.enabled without crds.keep": { crds: { enabled: true, keep: false } },
  "rbac.create": { rbac: { create: false } },
  "rbac.aggregateToView": { rbac: { aggregateToView: false } },
  "rbac.aggregateToEdit": { rbac: { aggregateToEdit: false } },
  "rbac.aggregateToAdmin, without aggregateToEdit": {
    rbac: { aggregateToEdit: false, aggregateToAdmin: false },
  },
  "serviceAccount.create": { serviceAccount: { create: false, name: "given" } },
  "serviceAccount.name": { serviceAccount: { name: "account" } },
  "serviceAccount.annotations": { serviceAccount: { annotations: { "example.com/a": "b" } } },
  "serviceAccount.labels": { serviceAccount: { labels: { team: "data" } } },
  podAnnotations: { podAnnotations: { "example.com/pod": "x" } },
  podLabels: { podLabels: { team: "data" } },
  extraArgs: { extraArgs: ["--log-level=Error"] },
  extraEnv: { extraEnv: [{ name: "NODE_OPTIONS", value: "--max-old-space-size=128" }] },
  extraVolumes: { extraVolumes: [{ name: "ca", emptyDir: {} }] },
  extraVolumeMounts: { extraVolumeMounts: [{ name: "tmp", mountPath: "/var/tmp" }] },
  extraObjects: {
    extraObjects: [
      {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "{{ .Release.Name }}-more" },
        data: { a: "b" },
      },
    ],
  },
  resources: { resources: { limits: { memory: "1Gi" } } },
  nodeSelector: { nodeSelector: { "kubernetes.io/os": "linux" } },
  tolerations: { tolerations: [{ operator: "Exists" }] },
  affinity: { affinity: { nodeAffinity: {} } },
  topologySpreadConstraints: {
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "ScheduleAnyway" }],
  },
  priorityClassName: { priorityClassName: "system-cluster-critical" },
  runtimeClassName: { runtimeClassName: "gvisor" },
  hostUsers: { hostUsers: false },
  strategy: { strategy: { type: "Recreate" } },
  hostAliases: { hostAliases: [{ ip: "10.0.0.1", hostnames: ["db"] }] },
  dnsPolicy: { dnsPolicy: "Default" },
  dnsConfig: { dnsConfig: { options: [{ name: "ndots", value: "1" }] } },
  terminationGracePeriodSeconds: { terminationGracePeriodSeconds: 60 },
  revisionHistoryLimit: { revisionHistoryLimit: 1 },
  "podDisruptionBudget.enabled": { podDisruptionBudget: { enabled: false } },
  "podDisruptionBudget.maxUnavailable": { podDisruptionBudget: { maxUnavailable: 2 } },
  "metrics.service.enabled": { metrics: { service: { enabled: false } } },
  "metrics.service.annotations": { metrics: { service: { annotations: { "example.com/s": "t" } } } },
  "metrics.serviceMonitor.enabled": { metrics: { serviceMonitor: SERVICE_MONITOR } },
  "metrics.serviceMonitor, all of it": {
    metrics: {
      serviceMonitor: {
        ...SERVICE_MONITOR,
        interval: "10s",
        labels: { release: "prometheus" },
        relabelings: RELABELING,
        metricRelabelings: METRIC_RELABELING,
      },
    },
  },
  "metrics.podMonitor.enabled": { metrics: { podMonitor: POD_MONITOR } },
  "metrics.podMonitor, all of it": {
    metrics: {
      podMonitor: {
        ...POD_MONITOR,
        interval: "10s",
        labels: { release: "prometheus" },
        relabelings: RELABELING,
        metricRelabelings: METRIC_RELABELING,
      },
    },
  },
  "metrics.workerPodMonitor.enabled": { metrics: { workerPodMonitor: WORKER_MONITOR } },
  "metrics.workerPodMonitor, all of it, with watchNamespaces": {
    watchNamespaces: ["shop"],
    metrics: {
      workerPodMonitor: {
        ...WORKER_MONITOR,
        interval: "10s",
        labels: { release: "prometheus" },
        relabelings: RELABELING,
        metricRelabelings: METRIC_RELABELING,
      },
    },
  },
  "metrics.prometheusRule.enabled": { metrics: { prometheusRule: RULE } },
  "metrics.prometheusRule, all of it": {
    metrics: {
      prometheusRule: {
        ...RULE,
        labels: { release: "prometheus" },
        alertLabels: { team: "data" },
        runbookUrl: "https://example.com/runbooks/",
        disabled: ["PgEventsDeadLetters"],
        lagSeconds: 60,
        stalledSeconds: 120,
        notReadySeconds: 180,
        operatorDownSeconds: 240,
        outboxBytes: 10_737_418_240,
        additionalRules: [{ alert: "Mine", expr: "vector(1)" }],
      },
    },
  },
  "metrics.dashboard.enabled": { metrics: { dashboard: { enabled: true } } },
  "metrics.dashboard, all of it": {
    metrics: {
      dashboard: {
        enabled: true,
        labels: { dashboards: "yes" },
        annotations: { grafana_folder: "Databases" },
      },
    },
  },
  "networkPolicy.enabled": { networkPolicy: { enabled: false } },
  "networkPolicy.apiServerPorts": { networkPolicy: { apiServerPorts: [16443] } },
  "networkPolicy.databasePorts": { networkPolicy: { databasePorts: [5432, 6432] } },
  "networkPolicy.extraEgress": {
    networkPolicy: { extraEgress: [{ to: [{ ipBlock: { cidr: "10.0.0.0/8" } }] }] },
  },
  global: { global: { anything: 1 } },
};
