/** Which Secrets, and which of their keys, a source needs. */
import type { PgEventSourceSpec } from "../api/source.ts";
import { databaseSecretKeys } from "../settings/database.ts";
import { callbackSecretReferences } from "./callback-secrets.ts";

export interface SecretReference {
  readonly name: string;
  readonly key: string;
  readonly optional: boolean;
  /** Its value is sent to a callback, or within reach of a module's code, so it must be labelled as allowed for that. */
  readonly leavesCluster: boolean;
  /** Its value must never be shown. A host or a role's name is no secret, and hiding it would spoil the log. */
  readonly hidden: boolean;
}

/** Every reference once, in a fixed order. */
export function secretReferences(spec: PgEventSourceSpec): SecretReference[] {
  const database = spec.database === undefined ? [] : databaseSecretKeys(spec.database);
  const shown = shownKeys(spec);
  // Who writes a module, or a source with one, could else read any Secret of the namespace by naming it.
  const withinReach = spec.callbacks.some(({ module }) => module !== undefined);
  const inside = database.map((reference) => ({
    ...reference,
    leavesCluster: withinReach,
    hidden: !shown.has(`${reference.name}/${reference.key}`),
  }));
  const callbacks = spec.callbacks.flatMap(callbackSecretReferences);
  const unique = new Map<string, SecretReference>();
  for (const reference of [...inside, ...callbacks]) {
    const id = `${reference.name}/${reference.key}`;
    const known = unique.get(id);
    unique.set(id, {
      ...reference,
      optional: reference.optional && (known?.optional ?? true),
      leavesCluster: reference.leavesCluster || (known?.leavesCluster ?? false),
      hidden: reference.hidden || (known?.hidden ?? false),
    });
  }
  return [...unique.values()].sort((a, b) => a.name.localeCompare(b.name) || a.key.localeCompare(b.key));
}

/** Says which values must never be shown; whatever the source does not speak of is among them. */
export function hiddenKeys(spec: PgEventSourceSpec): (secretName: string, key: string) => boolean {
  const shown = secretReferences(spec).filter(({ hidden }) => !hidden);
  const ids = new Set(shown.map(({ name, key }) => `${name}/${key}`));
  return (secretName, key) => !ids.has(`${secretName}/${key}`);
}

function shownKeys({ database }: PgEventSourceSpec): Set<string> {
  if (database === undefined) return new Set();
  const { secretRef, keys, tls } = database;
  const connection = [keys.host, keys.port, keys.dbname, keys.username].map(
    (key) => `${secretRef.name}/${key}`,
  );
  const ca = tls.caSecretRef === undefined ? [] : [`${tls.caSecretRef.name}/${tls.caSecretRef.key}`];
  const certificate =
    tls.clientCertSecretRef === undefined ? [] : [`${tls.clientCertSecretRef.name}/tls.crt`];
  const secret = [keys.password, keys.uri].map((key) => `${secretRef.name}/${key}`);
  return new Set([...connection, ...ca, ...certificate].filter((id) => !secret.includes(id)));
}
