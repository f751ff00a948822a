import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AclOperations, AclPermissionTypes, ResourcePatternTypes, ResourceTypes } from "@platformatic/kafka";
import { MESSAGE_FORMATS } from "../../src/core/api/broker.ts";
import { COMPRESSIONS } from "../../src/core/api/kafka.ts";
import { eventData, structuredBody } from "../../src/core/delivery/cloudevents.ts";
import type { AttemptOutcome } from "../../src/core/delivery/transport.ts";
import { stableEventId } from "../../src/core/event.ts";
import { KAFKA_LOGIN, type KafkaServer, kafkaMissing, kafkaServer } from "../support/brokers/kafka-server.ts";
import { certificateAuthority } from "../support/certificates.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { type BrokerSetup, brokerTransport } from "./broker-endpoint.ts";
import { receivedEvent } from "./broker-message.ts";
import { assertOutcome, exerciseTransport } from "./conformance.ts";
import {
  createTopic,
  deleteTopic,
  kafkaTo,
  limitMessages,
  topicMessages,
  withAdmin,
} from "./kafka-endpoint.ts";

const never = new AbortController().signal;
const event = changeEvent();

describe("Kafka", { skip: await kafkaMissing() }, () => {
  let server: KafkaServer;
  let gone = false;

  before(async () => {
    server = await kafkaServer({ after: () => undefined });
  });
  after(() => server.stop());

  /** What a test did to the broker is undone before the next. */
  const working = async (): Promise<void> => {
    server.thaw();
    if (gone) await server.start();
    gone = false;
  };

  for (const format of MESSAGE_FORMATS) {
    exerciseTransport(`Kafka, ${format}`, {
      seesRefused: false,
      messageAnEvent: true,
      start: async (t, { timeoutSeconds }) => {
        await working();
        t.after(working);
        const topic = await createTopic(server);
        let deleted = false;
        const messages = async () => (deleted ? [] : await topicMessages(server, topic));
        return {
          transport: brokerTransport(t, kafkaTo(server, topic, { format }), { delivery: { timeoutSeconds } }),
          accepted: async () =>
            (await messages()).map((message) => receivedEvent(message, "ce_", (text) => text)),
          messages: async () => (await messages()).map(({ body }) => body),
          behave: async (next) => {
            await working();
            if (deleted) await eventually(() => createTopic(server, topic));
            deleted = next === "RefuseForNow";
            gone = next === "Gone";
            if (next === "Gone") await server.kill();
            else if (next === "Silent") await server.freeze();
            else if (next === "RefuseForNow") await deleteTopic(server, topic);
            else await limitMessages(server, topic, next === "RefuseForGood" ? 10 : null);
          },
        };
      },
    });
  }

  describe("messages", () => {
    test("are CloudEvents in the binary mode of the Kafka binding, keyed by the row", async (t) => {
      const topic = await createTopic(server);
      const strange = changeEvent({ table: "Ünï 🐘", key: '["50 %"]' });
      assertOutcome(
        await brokerTransport(t, kafkaTo(server, topic)).deliver([strange], never),
        "acknowledged",
        "stored",
      );
      const [{ header, body, key } = assert.fail()] = await topicMessages(server, topic);
      assert.equal(body, eventData(strange));
      assert.equal(key, 'public.Ünï 🐘/["50 %"]');
      assert.deepEqual(
        ["ce_specversion", "ce_id", "ce_type", "ce_subject", "ce_partitionkey", "content-type"].map(header),
        ["1.0", stableEventId(ORIGIN, strange), "dev.pgevents.row.inserted", key, key, "application/json"],
      );
    });

    test("are one JSON object in the structured mode", async (t) => {
      const topic = await createTopic(server);
      const transport = brokerTransport(t, kafkaTo(server, topic, { format: "CloudEventsStructured" }));
      assertOutcome(await transport.deliver([event], never), "acknowledged");
      const [{ header, body } = assert.fail()] = await topicMessages(server, topic);
      assert.equal(body, structuredBody(ORIGIN, event));
      assert.equal(header("content-type"), "application/cloudevents+json; charset=utf-8");
    });

    test("of a row go to one partition, in order; those of others are spread", async (t) => {
      const topic = await createTopic(server, undefined, 8);
      const transport = brokerTransport(t, kafkaTo(server, topic), { batch: { maxEvents: 50 } });
      const events = Array.from({ length: 200 }, (_, index) =>
        changeEvent({ id: String(index + 1), key: `[${index % 20}]` }),
      );
      for (let from = 0; from < events.length; from += 50) {
        assertOutcome(await transport.deliver(events.slice(from, from + 50), never), "acknowledged");
      }
      const byKey = Map.groupBy(await topicMessages(server, topic), ({ key }) => key);
      assert.equal(byKey.size, 20);
      for (const messages of byKey.values()) {
        assert.equal(new Set(messages.map(({ partition }) => partition)).size, 1);
        const sequences = messages.map(({ header }) => header("ce_sequence") ?? "");
        assert.deepEqual(sequences, sequences.toSorted());
        assert.equal(sequences.length, 10);
      }
      const partitions = new Set([...byKey.values()].flat().map(({ partition }) => partition));
      assert.ok(partitions.size > 3);
    });

    test("go to the topic of their table", async (t) => {
      const topic = await createTopic(server, "shop.public.-C3-9Cn-C3-AF.delete");
      const transport = brokerTransport(t, kafkaTo(server, "shop.{schema}.{table}.{operation}"));
      const deleted = changeEvent({ table: "Ünï", operation: "Delete", old: '{"id":1}', new: null });
      assertOutcome(await transport.deliver([deleted], never), "acknowledged");
      assert.equal((await topicMessages(server, topic)).length, 1);
    });

    for (const compression of COMPRESSIONS) {
      test(`compressed by ${compression} arrive`, async (t) => {
        const topic = await createTopic(server);
        const transport = brokerTransport(t, kafkaTo(server, topic, { compression }));
        const row = JSON.stringify({ text: "compress me ".repeat(1000) });
        const events = ["1", "2", "3"].map((id) => changeEvent({ id, new: row }));
        assertOutcome(await transport.deliver(events, never), "acknowledged");
        const bodies = (await topicMessages(server, topic)).map(({ body }) => body);
        assert.deepEqual(bodies, events.map(eventData));
      });
    }

    test("larger than the topic takes are refused for good, with their size", async (t) => {
      const topic = await createTopic(server);
      await limitMessages(server, topic, 50_000);
      const transport = brokerTransport(t, kafkaTo(server, topic));
      const large = changeEvent({ new: JSON.stringify({ text: "x".repeat(60_000) }) });
      const outcome = await transport.deliver([large], never);
      assertOutcome(outcome, "permanent", "MESSAGE_TOO_LARGE");
      assert.match(messageOf(outcome), /the event takes 60\d\d\d bytes, more than topic t-/);
      const batch = await transport.deliver([event, large], never);
      assertOutcome(batch, "permanent", "MESSAGE_TOO_LARGE");
      assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("to a topic that is not there are tried again until it is", async (t) => {
      const transport = brokerTransport(t, kafkaTo(server, "not-there"));
      const outcome = await transport.deliver([event], never);
      assertOutcome(outcome, "retryable", "UNKNOWN_TOPIC_OR_PARTITION");
      assert.match(messageOf(outcome), /the topic not-there does not exist/);
      await createTopic(server, "not-there");
      assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("whose topic would have a name that is too long are refused for good", async (t) => {
      const transport = brokerTransport(t, kafkaTo(server, "{schema}.{table}"));
      const table = "é".repeat(31);
      const long = await transport.deliver([changeEvent({ table, schema: table })], never);
      assertOutcome(long, "permanent", "topic-too-long");
      assert.match(messageOf(long), /373 characters, more than the 249 of Kafka/);
    });

    test("that a broker cut off in the middle had stored already come once more at most, with their id", async (t) => {
      const topic = await createTopic(server);
      const transport = brokerTransport(t, kafkaTo(server, topic), { delivery: { timeoutSeconds: 20 } });
      const events = Array.from({ length: 40 }, (_, index) => changeEvent({ id: String(index + 1) }));
      const first = events.map((one) => transport.deliver([one], never));
      t.after(working);
      gone = true;
      await server.kill();
      const outcomes = await Promise.all(first);
      await working();
      for (const [index, one] of events.entries()) {
        if (outcomes[index]?.kind === "acknowledged") continue;
        assertOutcome(await transport.deliver([one], never), "acknowledged");
      }
      const ids = (await topicMessages(server, topic)).map(({ header }) => header("ce_id") ?? "");
      assert.deepEqual([...new Set(ids)].sort(), events.map((one) => stableEventId(ORIGIN, one)).sort());
    });
  });

  describe("a login", () => {
    const secrets = { "kafka/username": KAFKA_LOGIN.username, "kafka/password": `${KAFKA_LOGIN.password}\n` };
    const login = (mechanism: string) => ({
      brokers: [server.sasl],
      sasl: { mechanism, secretRef: { name: "kafka" } },
    });

    for (const mechanism of ["Plain", "ScramSha256", "ScramSha512"]) {
      test(`by ${mechanism}`, async (t) => {
        const topic = await createTopic(server);
        const transport = brokerTransport(t, kafkaTo(server, topic, login(mechanism)), { secrets });
        assertOutcome(await transport.deliver([event], never), "acknowledged");
      });

      test(`by ${mechanism} that is refused is tried again and shows nothing; a Secret that changes is used`, async (t) => {
        const topic = await createTopic(server);
        const changing = { ...secrets, "kafka/password": "wrong-0815" };
        const transport = brokerTransport(t, kafkaTo(server, topic, login(mechanism)), { secrets: changing });
        const outcome = await transport.deliver([event], never);
        assertOutcome(outcome, "retryable", "SASL_AUTHENTICATION_FAILED");
        assert.doesNotMatch(JSON.stringify(outcome), /0815|4711/);
        changing["kafka/password"] = KAFKA_LOGIN.password;
        assertOutcome(await transport.deliver([event], never), "acknowledged");
      });
    }

    test("that may not write to the topic is told of", async (t) => {
      const topic = await createTopic(server);
      await withAdmin(server, (admin) =>
        admin.createAcls({
          creations: [
            {
              resourceType: ResourceTypes.TOPIC,
              resourceName: topic,
              resourcePatternType: ResourcePatternTypes.LITERAL,
              principal: `User:${KAFKA_LOGIN.username}`,
              host: "*",
              operation: AclOperations.WRITE,
              permissionType: AclPermissionTypes.DENY,
            },
          ],
        }),
      );
      const transport = brokerTransport(t, kafkaTo(server, topic, login("Plain")), { secrets });
      const outcome = await transport.deliver([event], never);
      assertOutcome(outcome, "retryable", "TOPIC_AUTHORIZATION_FAILED");
      assert.match(messageOf(outcome), /the login may not write to topic t-/);
    });
  });

  describe("connections", () => {
    const tls = { caSecretRef: { name: "kafka" }, clientCertSecretRef: { name: "id" } };
    const secrets = (ca = server.ca) => ({
      "kafka/ca.crt": ca,
      "id/tls.crt": server.client.cert,
      "id/tls.key": server.client.key,
    });

    test("by TLS trust the manifest's authority and show its certificate, by name and by address", async (t) => {
      const topic = await createTopic(server);
      for (const broker of [server.tls, server.tls.replace("127.0.0.1", "localhost")]) {
        const fields = kafkaTo(server, topic, { brokers: [broker], tls });
        const transport = brokerTransport(t, fields, { secrets: secrets() });
        assertOutcome(await transport.deliver([event], never), "acknowledged");
      }
    });

    test("to a broker whose certificate is not trusted are refused, and the setting named", async (t) => {
      const other = certificateAuthority("other").cert;
      const transport = brokerTransport(t, kafkaTo(server, "t", { brokers: [server.tls], tls }), {
        secrets: secrets(other),
      });
      const outcome = await transport.deliver([event], never);
      assertOutcome(outcome, "retryable");
      assert.match(messageOf(outcome), /certificate is not trusted.*tls\.caSecretRef/);
    });

    test("without the certificate that the broker wants are refused", async (t) => {
      const fields = kafkaTo(server, "t", { brokers: [server.tls], tls: { caSecretRef: { name: "kafka" } } });
      const transport = brokerTransport(t, fields, { secrets: secrets(), delivery: { timeoutSeconds: 5 } });
      assertOutcome(await transport.deliver([event], never), "retryable");
    });

    test("are made to another broker when one is down", async (t) => {
      const topic = await createTopic(server);
      const transport = brokerTransport(
        t,
        kafkaTo(server, topic, { brokers: ["127.0.0.1:9", server.plain] }),
      );
      assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("in a cluster are not made to loopback, and nowhere to metadata", async (t) => {
      const { plain } = server;
      const refused: [string, BrokerSetup][] = [
        [plain, { allowLoopback: false }],
        [plain.replace("127.0.0.1", "localhost"), { allowLoopback: false }],
        ["169.254.169.254:80", {}],
        ["[fd00:ec2::254]:80", {}],
      ];
      for (const [broker, setup] of refused) {
        const transport = brokerTransport(t, kafkaTo(server, "t", { brokers: [broker] }), setup);
        assertOutcome(await transport.deliver([event], never), "retryable", "address-denied");
      }
    });
  });
});

function messageOf(outcome: AttemptOutcome): string {
  return outcome.kind === "acknowledged" ? "" : outcome.message;
}
