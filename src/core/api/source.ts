/**
 * PgEventSource, the one source of truth of its shape: types, `parse`, crds/, the chart's copy, the
 * reference page and the editor schema all come from here (scripts/generate.ts).
 */
import { z } from "zod";
import { callbackSchema } from "./callback.ts";
import { captureSchema } from "./capture.ts";
import { databaseSchema } from "./database.ts";
import { integer, withEmptyDefault } from "./fields.ts";
import { withRules } from "./rule.ts";
import { workerSchema } from "./worker.ts";

export const API_GROUP = "pgevents.dev";
export const API_VERSION = "pgevents.dev/v1alpha1";
export const KIND = "PgEventSource";
export const PLURAL = "pgeventsources";

const callbacks = withRules(
  z.array(callbackSchema).min(1).max(16).meta({
    description: "Where the events go. Each callback has its own checkpoint; one never waits for another.",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
  }),
  [],
).refine((list) => new Set(list.map((callback) => callback.name)).size === list.length, {
  error: "the names of the callbacks must differ from each other",
});

/** The spec as a local manifest may have it: `database` may be left out when the URL is given otherwise. */
export const specSchema = z
  .strictObject({
    suspend: z
      .boolean()
      .default(false)
      .meta({
        description: "Stops the workers; capture stays and the outbox keeps what happens meanwhile. Default: false.",
      }),
    deletionPolicy: z
      .enum(["Delete", "Retain"])
      .default("Delete")
      .meta({
        description:
          "Delete: deleting the PgEventSource removes capture from the database. Retain: it stays there. Default: Delete.",
      }),
    deletionDeadlineSeconds: integer(
      0,
      86_400,
      "Seconds a deletion waits for a database that cannot be reached, before it gives up and leaves capture there. Default: 600.",
    ).default(600),
    database: databaseSchema.optional(),
    capture: withEmptyDefault(captureSchema),
    callbacks,
    worker: withEmptyDefault(workerSchema),
  })
  .meta({ description: "What to capture, and where to deliver it." });

export type PgEventSourceSpec = z.output<typeof specSchema>;

/** Metadata fields that pg-events reads; anything else is kept as it is. */
export interface SourceMetadata {
  name: string;
  namespace?: string | undefined;
  uid?: string | undefined;
  generation?: number | undefined;
  deletionTimestamp?: string | undefined;
  finalizers?: string[] | undefined;
  labels?: Record<string, string> | undefined;
  annotations?: Record<string, string> | undefined;
  resourceVersion?: string | undefined;
  creationTimestamp?: string | undefined;
}

/** A validated PgEventSource with every default filled in. */
export interface PgEventSource {
  apiVersion: typeof API_VERSION;
  kind: typeof KIND;
  metadata: SourceMetadata;
  spec: PgEventSourceSpec;
}
