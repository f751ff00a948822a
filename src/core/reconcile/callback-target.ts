import type { CallbackSpec } from "../api/callback.ts";

/** Where a callback's events go, for the status; no Secret is part of it. Absent for a module and for standard output. */
export function callbackTarget({ http, nats, kafka }: CallbackSpec): string | undefined {
  if (http !== undefined) return http.uri;
  if (nats !== undefined) return `${nats.servers[0]}/${nats.subject}`;
  if (kafka !== undefined) return `kafka://${kafka.brokers[0]}/${kafka.topic}`;
  return undefined;
}
