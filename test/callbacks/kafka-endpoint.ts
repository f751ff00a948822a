/** Topics of a Kafka broker, and what they hold. */
import { randomUUID } from "node:crypto";
import {
  Admin,
  ConfigResourceTypes,
  Consumer,
  IncrementalAlterConfigOperationTypes,
  MessagesStreamModes,
  Producer,
  stringSerializers,
} from "@platformatic/kafka";
import type { KafkaServer } from "../support/brokers/kafka-server.ts";
import { eventually } from "../support/processes.ts";
import type { BrokerMessage } from "./broker-message.ts";

export interface KafkaMessage extends BrokerMessage {
  readonly key: string;
  readonly partition: number;
}

/** The fields of a callback to this broker. */
export function kafkaTo(
  { plain }: KafkaServer,
  topic: string,
  fields: Record<string, unknown> = {},
): Record<string, unknown> {
  return { kafka: { brokers: [plain], topic, ...fields } };
}

/** A new topic; its name, once the broker serves it. */
export async function createTopic(
  server: KafkaServer,
  name = `t-${randomUUID()}`,
  partitions = 1,
): Promise<string> {
  await withAdmin(server, async (admin) => {
    await admin.createTopics({ topics: [name], partitions, replicas: 1 });
    await eventually(async () => {
      const { topics } = await admin.metadata({ topics: [name], forceUpdate: true });
      return topics.get(name)?.partitions.every(({ leader }) => leader >= 0);
    });
  });
  return name;
}

export function deleteTopic(server: KafkaServer, topic: string): Promise<void> {
  return withAdmin(server, (admin) => admin.deleteTopics({ topics: [topic] }));
}

/** The topic takes no larger messages; null: as large as the broker takes. Returns when that is so. */
export async function limitMessages(server: KafkaServer, topic: string, bytes: number | null): Promise<void> {
  const { SET, DELETE } = IncrementalAlterConfigOperationTypes;
  const name = "max.message.bytes";
  const config =
    bytes === null ? { name, configOperation: DELETE } : { name, configOperation: SET, value: String(bytes) };
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configs: [config] };
  await withAdmin(server, (admin) => admin.incrementalAlterConfigs({ resources: [resource] }));
  if (bytes !== null) await eventually(async () => !(await takes(server, topic, bytes + 1)));
}

async function takes({ plain }: KafkaServer, topic: string, bytes: number): Promise<boolean> {
  const producer = new Producer({
    clientId: "test",
    bootstrapBrokers: [plain],
    serializers: stringSerializers,
  });
  try {
    await producer.send({ messages: [{ topic, value: "x".repeat(bytes) }], acks: -1 });
    return true;
  } catch {
    return false;
  } finally {
    await producer.close();
  }
}

export async function withAdmin<T>({ plain }: KafkaServer, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new Admin({ clientId: "test", bootstrapBrokers: [plain] });
  try {
    return await work(admin);
  } finally {
    await admin.close();
  }
}

/** In the order of each partition, as far as they are written now. */
export async function topicMessages({ plain }: KafkaServer, topic: string): Promise<KafkaMessage[]> {
  const text = (bytes: Buffer | undefined) => bytes?.toString() ?? "";
  const consumer = new Consumer<string, string, string, string>({
    clientId: "test",
    groupId: randomUUID(),
    bootstrapBrokers: [plain],
    maxWaitTime: 100,
    deserializers: { key: text, value: text, headerKey: text, headerValue: text },
  });
  try {
    const offsets = await consumer.listOffsets({ topics: [topic] });
    const count = offsets.get(topic)?.reduce((sum, offset) => sum + Number(offset), 0) ?? 0;
    const messages: KafkaMessage[] = [];
    if (count === 0) return messages;
    const stream = await consumer.consume({
      topics: [topic],
      mode: MessagesStreamModes.EARLIEST,
      autocommit: false,
    });
    for await (const { key, value, headers, partition } of stream) {
      messages.push({ destination: topic, key, partition, header: (name) => headers.get(name), body: value });
      if (messages.length === count) break;
    }
    await stream.close();
    return messages;
  } finally {
    await consumer.close(true);
  }
}
