/** Reads the Secrets a source names, by `get` only, for the length of one reconcile. */
import { createHmac } from "node:crypto";
import type { PgEventSourceSpec } from "../core/api/source.ts";
import type { Problem } from "../core/reconcile/observed.ts";
import { secretReferences } from "../core/reconcile/secret-references.ts";
import type { ReadSecret } from "../core/settings/database.ts";
import { isNotFound } from "../kubernetes/api-error.ts";
import type { KubernetesClient, KubernetesObject } from "../kubernetes/client.ts";
import { objectPath } from "../kubernetes/paths.ts";
import { hideSecret } from "../runtime/log.ts";

export const ALLOW_LABEL = "pgevents.dev/allow";

export interface ResolvedSecrets {
  readonly read: ReadSecret;
  /** A keyed hash of the referenced values, to roll the workers when one changes. */
  readonly hash: string;
}

interface Secret extends KubernetesObject {
  readonly data?: Readonly<Record<string, string>>;
}

export interface SecretsOptions {
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly requireLabel: boolean;
  /** Key of the hash: the same values must not give the same hash for two sources. */
  readonly hashKey: string;
  readonly signal: AbortSignal;
}

/** @returns a problem that names Secrets and keys, never values */
export async function resolveSecrets(
  spec: PgEventSourceSpec,
  options: SecretsOptions,
): Promise<ResolvedSecrets | Problem> {
  const references = secretReferences(spec);
  const secrets = new Map<string, Secret>();
  for (const name of new Set(references.map((reference) => reference.name))) {
    const secret = await getSecret(name, options);
    if (secret === null)
      return {
        ok: false,
        reason: "SecretNotFound",
        message: `Secret ${name} does not exist in namespace ${options.namespace}.`,
      };
    secrets.set(name, secret);
  }
  const hash = createHmac("sha256", options.hashKey);
  for (const { name, key, optional, leavesCluster, hidden } of references) {
    const secret = secrets.get(name);
    const value = secret?.data?.[key];
    if (value === undefined && !optional) {
      return { ok: false, reason: "SecretInvalid", message: `Secret ${name} has no key ${key}.` };
    }
    if (leavesCluster && options.requireLabel && secret?.metadata.labels?.[ALLOW_LABEL] !== "true") {
      return {
        ok: false,
        reason: "SecretNotAllowed",
        message: `Secret ${name} is sent to a callback, or in reach of a module, so it needs the label ${ALLOW_LABEL}: "true".`,
      };
    }
    if (hidden && value !== undefined) hideSecret(decode(value).trim());
    hash.update(`${name}/${key}=${value ?? ""}\n`);
  }
  return {
    read: (name, key) => {
      const value = secrets.get(name)?.data?.[key];
      return value === undefined ? undefined : decode(value);
    },
    hash: hash.digest("hex").slice(0, 32),
  };
}

async function getSecret(
  name: string,
  { client, namespace, signal }: SecretsOptions,
): Promise<Secret | null> {
  try {
    return await client.get<Secret>(objectPath("api/v1", namespace, "secrets", name), { signal });
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}

function decode(base64: string): string {
  return Buffer.from(base64, "base64").toString("utf8");
}
