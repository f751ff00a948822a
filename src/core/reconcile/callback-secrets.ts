/** Which Secrets, and which of their keys, callbacks need. */
import type { BrokerTlsSpec, LoginSpec } from "../api/broker.ts";
import type { CallbackSpec } from "../api/callback.ts";
import type { KafkaSpec } from "../api/kafka.ts";
import type { NatsSpec } from "../api/nats.ts";
import type { SecretReference } from "./secret-references.ts";

interface SecretKey {
  readonly name: string;
  readonly key: string;
}

/** What proves to a callback who the worker is leaves the cluster too: who names it may use it. */
export function callbackSecretReferences({ http, nats, kafka }: CallbackSpec): SecretReference[] {
  const headers = (http?.headers ?? []).flatMap(({ secretKeyRef }) => secretKeyRef ?? []);
  const { secretKeyRef: key, previousSecretKeyRef: previous } = http?.signing ?? {};
  const keys = [key, previous].flatMap((ref) => ref ?? []);
  return [
    ...[...headers, ...keys].map(secret),
    ...tlsReferences(http?.tls),
    ...(nats === undefined ? [] : natsReferences(nats)),
    ...(kafka === undefined ? [] : kafkaReferences(kafka)),
  ];
}

function natsReferences({ auth = {}, tls }: NatsSpec): SecretReference[] {
  const { login, tokenSecretRef, nkeySecretRef, credsSecretRef } = auth;
  const single = [tokenSecretRef, nkeySecretRef, credsSecretRef].flatMap((ref) => ref ?? []);
  return [...loginReferences(login), ...single.map(secret), ...tlsReferences(tls)];
}

function kafkaReferences({ sasl, tls }: KafkaSpec): SecretReference[] {
  return [...loginReferences(sasl), ...tlsReferences(tls)];
}

function loginReferences(login: LoginSpec | undefined): SecretReference[] {
  if (login === undefined) return [];
  const { secretRef, username, usernameKey, passwordKey } = login;
  const password = secret({ name: secretRef.name, key: passwordKey });
  if (username !== undefined) return [password];
  return [{ ...secret({ name: secretRef.name, key: usernameKey }), hidden: false }, password];
}

function tlsReferences(tls: BrokerTlsSpec | undefined): SecretReference[] {
  const { caSecretRef, clientCertSecretRef } = tls ?? {};
  const ca = caSecretRef === undefined ? [] : [shown(caSecretRef)];
  if (clientCertSecretRef === undefined) return ca;
  const { name } = clientCertSecretRef;
  return [...ca, { ...secret({ name, key: "tls.crt" }), hidden: false }, secret({ name, key: "tls.key" })];
}

function secret({ name, key }: SecretKey): SecretReference {
  return { name, key, optional: false, leavesCluster: true, hidden: true };
}

function shown({ name, key }: SecretKey): SecretReference {
  return { name, key, optional: false, leavesCluster: false, hidden: false };
}
