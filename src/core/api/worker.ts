import { z } from "zod";
import { integer, listByKeys, objectName } from "./fields.ts";
import { withRules } from "./rule.ts";

const preserved = (description: string) =>
  z.record(z.string(), z.unknown()).meta({ description, "x-kubernetes-preserve-unknown-fields": true });

const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const QUANTITY = /^([0-9]+(\.[0-9]+)?)(m|k|[MGTPE]|[KMGTPE]i)?$/;
const MAX_ENTRIES = 32;

const mapOf = <S extends z.ZodType>(value: S, description: string) =>
  z
    .record(z.string(), value)
    .refine((map) => Object.keys(map).length <= MAX_ENTRIES, {
      error: `must hold at most ${MAX_ENTRIES} entries`,
    })
    .meta({ description, maxProperties: MAX_ENTRIES });

const labelValue = z.string().max(63).regex(LABEL_VALUE, "must be a valid label value");

/** Labels the operator sets itself: it finds its pods by them. */
const ownLabels = withRules(mapOf(labelValue, "Labels added to the pods. Default: none."), [
  {
    cel: "self.all(key, !key.startsWith('pgevents.dev/') && !key.startsWith('app.kubernetes.io/'))",
    message: "labels of `pgevents.dev/` and `app.kubernetes.io/` are set by pg-events",
    holds: (labels) =>
      Object.keys(labels).every((key) => !/^(pgevents\.dev|app\.kubernetes\.io)\//.test(key)),
  },
]);

const quantity = withRules(
  z
    .union([z.int(), z.string().max(32).regex(QUANTITY)], {
      error: "must be a quantity such as 100m, 1 or 256Mi, with quotes when it has a decimal point",
    })
    .meta({ "x-kubernetes-int-or-string": true, maxLength: 32, pattern: QUANTITY.source }),
  [
    {
      // Text cannot be negative: the pattern has no sign.
      cel: "type(self) == string || self >= 0",
      message: "must not be negative",
      holds: (amount) => typeof amount === "string" || amount >= 0,
    },
  ],
);

/** A closed list of what a user may set of the pod, not a pod template: who writes a PgEventSource must not gain a pod of his choice. */
export const workerSchema = z
  .strictObject({
    replicas: integer(0, 32, "Number of worker pods. Default: 1.").default(1),
    resources: z
      .strictObject({
        requests: mapOf(quantity, "What the scheduler sets aside, by resource. Default: none.").optional(),
        limits: mapOf(quantity, "What the container may use at most, by resource. Default: none.").optional(),
      })
      .optional()
      .meta({
        description:
          "Requests and limits of the worker's container. Default: 50m CPU and 96Mi requested, 256Mi limit; for each `module` the limit is 256Mi and four times its `memoryMegabytes` higher.",
      }),
    labels: ownLabels.optional(),
    annotations: mapOf(z.string().max(4096), "Annotations added to the pods. Default: none.").optional(),
    nodeSelector: mapOf(labelValue, "Labels a node must have. Default: none.").optional(),
    tolerations: z
      .array(preserved("A toleration, as in a pod."))
      .max(32)
      .optional()
      .meta({ description: "Tolerations of the pods. Default: none." }),
    affinity: preserved("Affinity of the pods, as in a pod. Default: none.").optional(),
    topologySpreadConstraints: z
      .array(preserved("A constraint, as in a pod."))
      .max(8)
      .optional()
      .meta({ description: "How pods spread over nodes and zones. Default: none." }),
    priorityClassName: objectName("Priority class of the pods. Default: none.").optional(),
    imagePullSecrets: listByKeys(["name"], z.strictObject({ name: objectName("Name of the Secret.") }))
      .max(8)
      .optional()
      .meta({ description: "Secrets to pull the image with. Default: none." }),
    terminationGracePeriodSeconds: integer(
      1,
      3600,
      "Seconds a pod has to finish what is under way when it is stopped. Default: 30.",
    ).default(30),
    logLevel: z
      .enum(["Error", "Warn", "Info", "Debug"])
      .default("Info")
      .meta({ description: "How much the worker logs. Default: Info." }),
  })
  .meta({ description: "The Deployment that relays the events." });
