import { z } from "zod";
import { integer, objectName } from "./fields.ts";

const preserved = (description: string) =>
  z.record(z.string(), z.unknown()).meta({ description, "x-kubernetes-preserve-unknown-fields": true });

const stringMap = (maxLength: number, description: string) =>
  z.record(z.string(), z.string().max(maxLength)).meta({ description, maxProperties: 32 });

/** A closed list of what a user may set of the pod, not a pod template: who writes a PgEventSource must not gain a pod of his choice. */
export const workerSchema = z
  .strictObject({
    replicas: integer(0, 32, "Number of worker pods. Default: 1.").default(1),
    resources: z
      .strictObject({
        requests: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
        limits: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
      })
      .optional()
      .meta({
        description: "Requests and limits of the worker's container. Default: 50m CPU and 96Mi requested, 256Mi limit.",
        "x-kubernetes-preserve-unknown-fields": true,
      }),
    labels: stringMap(63, "Labels added to the pods. Default: none.").optional(),
    annotations: stringMap(4096, "Annotations added to the pods. Default: none.").optional(),
    nodeSelector: stringMap(63, "Labels a node must have. Default: none.").optional(),
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
    imagePullSecrets: z
      .array(z.strictObject({ name: objectName("Name of the Secret.") }))
      .max(8)
      .optional()
      .meta({
        description: "Secrets to pull the image with. Default: none.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
      }),
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

export type WorkerSpec = z.output<typeof workerSchema>;
