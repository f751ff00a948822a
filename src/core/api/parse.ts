/** One way in for every PgEventSource: file, environment or API server. Unknown fields are refused by path. */
import { z } from "zod";
import { PgEventsError } from "../errors.ts";
import { API_VERSION, KIND, type PgEventSource, type SourceMetadata, specSchema } from "./source.ts";

const MAX_NAME_LENGTH = 52; // leaves room for the pod's suffix within 63 characters

const metadataSchema = z.looseObject({
  name: z
    .string()
    .min(1)
    .max(MAX_NAME_LENGTH, `must be at most ${MAX_NAME_LENGTH} characters`)
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, "must be a lower-case DNS label"),
  namespace: z.string().optional(),
});

const manifestSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION, `must be ${API_VERSION}`),
  kind: z.literal(KIND, `must be ${KIND}`),
  metadata: metadataSchema,
  spec: specSchema,
  status: z.unknown().optional(),
});

/**
 * Validates a manifest and fills in the defaults.
 * @param where what the input is, for the message: a file name, or `namespace/name`
 * @throws PgEventsError PGE_MANIFEST_INVALID that lists every finding with its path
 */
export function parsePgEventSource(value: unknown, where: string): PgEventSource {
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const findings = parsed.error.issues.flatMap(findingsOf);
    throw new PgEventsError("PGE_MANIFEST_INVALID", `${where} is not a valid ${KIND}: ${findings.join("; ")}.`, {
      reason: "InvalidSpec",
      remedy: "See docs/reference/pgeventsource.md for the fields.",
    });
  }
  const { apiVersion, kind, metadata, spec } = parsed.data;
  return { apiVersion, kind, metadata: metadata as SourceMetadata, spec };
}

function findingsOf(issue: z.core.$ZodIssue): string[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => `${pathText([...issue.path, key])}: no such field`);
  }
  const missing = issue.code === "invalid_type" && issue.input === undefined;
  const text = missing ? "is required" : issue.message;
  return [`${pathText(issue.path)}: ${text}`];
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? String(part) : `.${String(part)}`))
    .join("") || "the document";
}
