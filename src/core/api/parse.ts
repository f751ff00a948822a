/** One way in for every PgEventSource: file, environment or API server. Unknown fields are refused by path. */
import { z } from "zod";
import { PgEventsError } from "../errors.ts";
import {
  API_VERSION,
  KIND,
  metadataSchema,
  type PgEventSource,
  type SourceMetadata,
  specSchema,
} from "./source.ts";

const MAX_FINDINGS = 20; // a condition message has an end, and nobody reads further
const MAX_DEPTH = 64; // more than any pod affinity needs

/** A whole manifest; the editor schema is made of it too. */
export const manifestSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION, `must be ${API_VERSION}`),
  kind: z.literal(KIND, `must be ${KIND}`),
  metadata: metadataSchema,
  spec: specSchema,
  status: z.unknown().optional(),
});

/**
 * Validates a manifest and fills in the defaults; expressions.ts does the rest. As on the API server, a field that is null counts
 * as absent.
 * @param where what the input is, for the message: a file name, or `namespace/name`
 * @throws PgEventsError PGE_MANIFEST_INVALID that lists the findings with their paths
 */
export function parsePgEventSource(value: unknown, where: string): PgEventSource {
  if (depthOf(value) > MAX_DEPTH)
    throw invalidManifest(where, ["the document: is nested too deeply, or refers to itself"]);
  const parsed = manifestSchema.safeParse(withoutNulls(value), { reportInput: true });
  if (!parsed.success) throw invalidManifest(where, parsed.error.issues.flatMap(findingsOf));
  const { apiVersion, kind, metadata, spec } = parsed.data;
  return { apiVersion, kind, metadata: metadata as SourceMetadata, spec };
}

/** The error for a manifest with these findings, each with its path. */
export function invalidManifest(where: string, findings: string[]): PgEventsError {
  const more = findings.length > MAX_FINDINGS ? `; and ${findings.length - MAX_FINDINGS} more` : "";
  const list = findings.slice(0, MAX_FINDINGS).join("; ");
  return new PgEventsError("PGE_MANIFEST_INVALID", `${where} is not a valid ${KIND}: ${list}${more}.`, {
    reason: "InvalidSpec",
    remedy: "See docs/reference/pgeventsource.md for the fields.",
  });
}

/** Levels of nesting; stops at the first branch that is too deep, as a YAML alias may form a circle. */
function depthOf(value: unknown, level = 0): number {
  if (typeof value !== "object" || value === null || level > MAX_DEPTH) return level;
  let deepest = level;
  for (const field of Object.values(value)) {
    deepest = Math.max(deepest, depthOf(field, level + 1));
    if (deepest > MAX_DEPTH) break;
  }
  return deepest;
}

/** Copies what is an object or a list; entries of a list stay, as their removal would move the others. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(kept.map(([key, field]) => [key, withoutNulls(field)]));
}

function findingsOf(issue: z.core.$ZodIssue): string[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => `${pathText([...issue.path, key])}: no such field`);
  }
  const missing = issue.code === "invalid_type" && issue.input === undefined;
  const text = missing ? "is required" : issue.message.replace(/^Invalid (input|option): /, "");
  return [`${pathText(issue.path)}: ${text}`];
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map(stepText).join("") || "the document";
}

function stepText(step: PropertyKey, index: number): string {
  if (typeof step === "number") return `[${step}]`;
  const name = String(step);
  if (!/^[A-Za-z_][\w-]*$/.test(name)) return `[${JSON.stringify(name)}]`;
  return index === 0 ? name : `.${name}`;
}
