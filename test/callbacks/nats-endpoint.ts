/** Streams of a nats-server, and what they hold. */
import { type JetStreamManager, jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { connect, type NodeConnectionOptions } from "@nats-io/transport-node";
import type { NatsServer } from "../support/brokers/nats-server.ts";
import type { BrokerMessage } from "./broker-message.ts";

export const STREAM = "EVENTS";

/** The fields of a callback to this server. */
export function natsTo({ url }: NatsServer, fields: Record<string, unknown> = {}): Record<string, unknown> {
  return { nats: { servers: [url], ...fields } };
}

/** Creates the stream of `pgevents.>`, or changes it. */
export function createStream(
  server: NatsServer,
  config: Partial<StreamConfig> = {},
  login: NodeConnectionOptions = {},
): Promise<void> {
  return withManager(server, login, async ({ streams }) => {
    const wanted = { name: STREAM, subjects: ["pgevents.>"], max_msg_size: -1, ...config };
    const exists = await streams.info(wanted.name).catch(() => null);
    await (exists === null ? streams.add(wanted) : streams.update(wanted.name, wanted));
  });
}

export function deleteStream(server: NatsServer): Promise<void> {
  return withManager(server, {}, async ({ streams }) => void (await streams.delete(STREAM)));
}

/** In the order in which they were stored; none when there is no stream. */
export function storedMessages(
  server: NatsServer,
  login: NodeConnectionOptions = {},
): Promise<BrokerMessage[]> {
  return withManager(server, login, async ({ streams }) => {
    const info = await streams.info(STREAM).catch(() => null);
    if (info === null || info.state.messages === 0) return [];
    const messages: BrokerMessage[] = [];
    for (let seq = info.state.first_seq; seq <= info.state.last_seq; seq += 1) {
      const stored = await streams.getMessage(STREAM, { seq });
      if (stored === null) continue;
      const { header: headers } = stored;
      messages.push({
        destination: stored.subject,
        header: (name) => (headers.has(name) ? headers.get(name) : undefined),
        body: stored.string(),
      });
    }
    return messages;
  });
}

async function withManager<T>(
  { url }: NatsServer,
  login: NodeConnectionOptions,
  work: (manager: JetStreamManager) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: url, ...login });
  try {
    return await work(await jetstreamManager(connection));
  } finally {
    await connection.close();
  }
}
