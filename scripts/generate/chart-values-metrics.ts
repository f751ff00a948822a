/** The part `metrics` of the chart's values: who scrapes, what raises an alert, what Grafana shows. */
import { z } from "zod";
import { flag, group, labels, listAsInPod, text, whole } from "./value-fields.ts";

const monitor = (description: string) =>
  group(description, {
    enabled: flag(false, "Create it."),
    interval: text("30s", "How often to scrape."),
    labels: labels("Labels of it, by which a Prometheus finds it."),
    relabelings: listAsInPod("Relabelings before a scrape, added to the chart's own."),
    metricRelabelings: listAsInPod("Relabelings of what was scraped."),
  });

export const metricsValues = group("Prometheus metrics, alerts and a dashboard.", {
  service: group("Service in front of the operator's ports metrics and probes.", {
    enabled: flag(true, "Create it; `helm test` needs it."),
    annotations: labels("Annotations of it."),
  }),
  serviceMonitor: monitor(
    "ServiceMonitor of the Prometheus operator for the operator pods; needs the Service.",
  ),
  podMonitor: monitor("PodMonitor for the operator pods, instead of the ServiceMonitor."),
  workerPodMonitor: monitor(
    "PodMonitor for the worker pods, in every namespace that is watched. Alerts and dashboard need it. Of several releases that watch the same namespaces enable it in one.",
  ),
  prometheusRule: group("PrometheusRule with alerts.", {
    enabled: flag(false, "Create it."),
    labels: labels("Labels of it, by which a Prometheus finds it."),
    alertLabels: labels("Labels added to every alert."),
    runbookUrl: text(
      "https://github.com/pg-events/pg-events/blob/main/docs/runbooks",
      "Where the runbooks are; the name of the alert and .md are added.",
    ),
    disabled: z
      .array(z.string().regex(/^PgEvents[A-Za-z]+$/))
      .default([])
      .meta({ description: "Names of alerts that are left out." }),
    lagSeconds: whole(
      1,
      604_800,
      300,
      "PgEventsDeliveryLagging: seconds that an event may wait for its delivery.",
    ),
    stalledSeconds: whole(
      60,
      86_400,
      600,
      "PgEventsDeliveryStalled: seconds in which a callback with waiting events takes none.",
    ),
    notReadySeconds: whole(
      60,
      86_400,
      900,
      "PgEventsSourceNotReady and PgEventsBuildFailing: seconds that a condition may be False.",
    ),
    operatorDownSeconds: whole(
      60,
      86_400,
      300,
      "PgEventsOperatorDown: seconds without an operator that leads.",
    ),
    outboxBytes: whole(
      1_048_576,
      1_099_511_627_776_000,
      1_073_741_824,
      "PgEventsOutboxGrowing: bytes beyond which an outbox that grows for an hour is told of.",
    ),
    additionalRules: listAsInPod("Rules added to them."),
  }),
  dashboard: group("ConfigMap with a Grafana dashboard.", {
    enabled: flag(false, "Create it."),
    labels: z
      .record(z.string(), z.string())
      .default({ grafana_dashboard: "1" })
      .meta({ description: "Labels of it, by which Grafana's sidecar finds it." }),
    annotations: labels("Annotations of it, such as the folder that the sidecar puts it in."),
  }),
});
