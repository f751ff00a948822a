/**
 * PgEventSource, the one source of truth of its shape: types, `parse`, crds/, the chart's copy, the
 * reference page and the editor schema all come from here (scripts/generate.ts).
 */
import { z } from "zod";
import { callbackSchema, DEAD_LETTER_RULE } from "./callback.ts";
import { captureSchema } from "./capture.ts";
import { databaseSchema } from "./database.ts";
import { integer, listByKeys, withEmptyDefault } from "./fields.ts";
import { type TransitionRule, withRules } from "./rule.ts";
import { workerSchema } from "./worker.ts";

export const API_GROUP = "pgevents.dev";
export const API_VERSION = "pgevents.dev/v1alpha1";
export const KIND = "PgEventSource";
export const PLURAL = "pgeventsources";

const MAX_NAME_LENGTH = 52; // leaves room for the pod's suffix within 63 characters
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const NAME_TOO_LONG = `must be at most ${MAX_NAME_LENGTH} characters`;
const NAME_NO_LABEL = "must be a lower-case DNS label: letters, digits and '-', no '.'";

export const metadataSchema = z.looseObject({
  name: z
    .string()
    .min(1)
    .max(MAX_NAME_LENGTH, NAME_TOO_LONG)
    .regex(DNS_LABEL, NAME_NO_LABEL)
    .meta({ description: "Name of the PgEventSource; the worker Deployment gets the same one." }),
  namespace: z
    .string()
    .optional()
    .meta({ description: "Namespace of the PgEventSource, its Secrets and its worker." }),
});

/** What `metadataSchema` asks for, in CEL: a CRD cannot hold a schema for metadata. */
export const METADATA_RULES: TransitionRule[] = [
  { cel: `size(self.metadata.name) <= ${MAX_NAME_LENGTH}`, message: `metadata.name ${NAME_TOO_LONG}` },
  { cel: `self.metadata.name.matches('${DNS_LABEL.source}')`, message: `metadata.name ${NAME_NO_LABEL}` },
];

const callbacks = withRules(
  listByKeys(["name"], callbackSchema).min(1).max(16).meta({
    description: "Where the events go. Each callback has its own checkpoint; one never waits for another.",
  }),
  [DEAD_LETTER_RULE],
);

/** The spec as a local manifest may have it: `database` may be left out when the URL is given otherwise. */
export const specSchema = z
  .strictObject({
    suspend: z.boolean().default(false).meta({
      description:
        "Stops the workers; capture stays and the outbox keeps what happens meanwhile. Default: false.",
    }),
    deletionPolicy: z.enum(["Delete", "Retain"]).default("Delete").meta({
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
