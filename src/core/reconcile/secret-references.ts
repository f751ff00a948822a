/** Which Secrets, and which of their keys, a source needs. */
import type { PgEventSourceSpec } from "../api/source.ts";
import { databaseSecretKeys } from "../settings/database.ts";

export interface SecretReference {
  readonly name: string;
  readonly key: string;
  readonly optional: boolean;
  /** Its value is sent to a callback, so it must be labelled as allowed for that. */
  readonly leavesCluster: boolean;
}

/** Every reference once, in a fixed order. */
export function secretReferences(spec: PgEventSourceSpec): SecretReference[] {
  const database = spec.database === undefined ? [] : databaseSecretKeys(spec.database);
  const inside = database.map((reference) => ({ ...reference, leavesCluster: false }));
  const callbacks = spec.callbacks.flatMap(({ http }) => [
    ...(http.headers ?? []).flatMap(({ secretKeyRef }) =>
      secretKeyRef === undefined ? [] : [{ ...secretKeyRef, optional: false, leavesCluster: true }],
    ),
    ...(http.tls?.caSecretRef === undefined
      ? []
      : [{ ...http.tls.caSecretRef, optional: false, leavesCluster: false }]),
  ]);
  const unique = new Map<string, SecretReference>();
  for (const reference of [...inside, ...callbacks]) {
    const id = `${reference.name}/${reference.key}`;
    const known = unique.get(id);
    unique.set(id, {
      ...reference,
      optional: reference.optional && (known?.optional ?? true),
      leavesCluster: reference.leavesCluster || (known?.leavesCluster ?? false),
    });
  }
  return [...unique.values()].sort((a, b) => a.name.localeCompare(b.name) || a.key.localeCompare(b.key));
}
