import { z } from "zod";

const text = (description: string) => z.string().meta({ description });
const count = (description: string) => z.int().meta({ description });
const time = (description: string) => z.string().meta({ description, format: "date-time" });

const condition = z.object({
  type: z.string().max(316).meta({ description: "What the condition is about." }),
  status: z.enum(["True", "False", "Unknown"]).meta({ description: "Whether it holds." }),
  observedGeneration: z.int().min(0).optional().meta({ description: "Generation of the spec it speaks of." }),
  lastTransitionTime: time("When `status` last changed."),
  reason: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
    .meta({ description: "Why, in one word." }),
  message: z.string().max(32_768).meta({ description: "Why, for a person, and what to do about it." }),
});

export const statusSchema = z
  .object({
    observedGeneration: count("Generation of the spec that this status speaks of.").optional(),
    conditions: z
      .array(condition)
      .max(16)
      .optional()
      .meta({
        description:
          "Ready, and what it is made of: CredentialsResolved, DatabaseReachable, Built, CallbacksResolved, Deployed, Delivering.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
      }),
    build: z
      .object({
        specHash: text("Fingerprint of the capture spec that was built.").optional(),
        version: text("Version of pg-events that built it.").optional(),
        captureMode: text("How changes are captured: Trigger.").optional(),
        schemaVersion: count(
          "Version of the tables in the capture schema; absent while there is none.",
        ).optional(),
        tables: count("Tables captured.").optional(),
        failedTables: z
          .array(z.string())
          .max(64)
          .optional()
          .meta({ description: "Tables that could not be captured, the first 64." }),
        findings: z.array(z.string()).max(32).optional().meta({
          description:
            "What else was found in the database, errors first, each with what to do: the first 32, and 1,024 characters of each. See docs/reference/findings.md.",
        }),
        manualInstall: z
          .object({ configMapName: text("Name of the ConfigMap with the SQL to run.").optional() })
          .optional()
          .meta({ description: "What waits for somebody to run it, when `spec.capture.install` is Manual." }),
        schemaChangeMode: text("How changes of tables are noticed: EventTrigger, Poll or Off.").optional(),
        serverVersion: text("Version of the PostgreSQL server.").optional(),
        lastBuildTime: time("When a build last changed something.").optional(),
      })
      .optional()
      .meta({ description: "What is installed in the database." }),
    worker: z
      .object({
        deploymentName: text("Name of the worker Deployment.").optional(),
        replicas: count("Pods that exist.").optional(),
        readyReplicas: count("Pods that are ready.").optional(),
        selector: text("Label selector of the pods, for the scale subresource.").optional(),
      })
      .optional()
      .meta({ description: "The worker Deployment." }),
    delivery: z
      .object({
        pendingEvents: count(
          "Events not yet acknowledged, summed over the callbacks; an estimate.",
        ).optional(),
        oldestPendingTime: time(
          "When the oldest event that a callback has not got was written; absent without one.",
        ).optional(),
        deadLetters: count("Dead letters, summed over the callbacks.").optional(),
        lostEvents: count(
          "Events that `capture.backlog.onLimit` dropped before a callback had them, summed over the callbacks.",
        ).optional(),
        skippedChanges: count(
          "Changes that could not be captured (`capture.onError` Skip), since capture was made.",
        ).optional(),
        outboxBytes: count("Bytes that the outbox takes on disk.").optional(),
        capturePausedSince: time("Changes are not captured since then; absent while they are.").optional(),
      })
      .optional()
      .meta({
        description: "Delivery as a whole. Numbers of events and bytes are refreshed once a minute at most.",
      }),
    callbacks: z
      .array(
        z.object({
          name: text("Name of the callback."),
          uri: text("Where the events go: address, or server with subject or topic.").optional(),
          state: text("Delivering, Failing, Suspended or Waiting.").optional(),
          lastError: text("What the last failed attempt met; never a response body.").optional(),
          pendingEvents: count("Events it has not acknowledged; an estimate above 10,000.").optional(),
          oldestPendingTime: time("When the oldest of them was written; absent without one.").optional(),
          lostEvents: count(
            "Events that were dropped before it had them, whatever its filter; an estimate above a million at once.",
          ).optional(),
        }),
      )
      .max(16)
      .optional()
      .meta({
        description: "The callbacks one by one.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
      }),
  })
  .meta({ description: "What the operator saw last. Written by the operator only." });

export type PgEventSourceStatus = z.output<typeof statusSchema>;
