import { z } from "zod";
import { brokerTls, loginFields, messageFormat, templatePart } from "./broker.ts";
import { setOf } from "./fields.ts";

const sasl = z
  .strictObject({
    mechanism: z.enum(["Plain", "ScramSha256", "ScramSha512"]).default("ScramSha512").meta({
      description:
        "How the password is shown: Plain sends it as it is, so use it with `tls`; ScramSha256 and ScramSha512 prove that it is known. Default: ScramSha512.",
    }),
    ...loginFields,
  })
  .meta({ description: "How the worker logs in (SASL). Default: not at all." });

export const COMPRESSIONS = ["None", "Gzip", "Snappy", "Lz4", "Zstd"] as const;

export const kafka = z
  .strictObject({
    brokers: setOf(
      z
        .string()
        .min(1)
        .max(300)
        .regex(/^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$/, "must be host:port"),
    )
      .min(1)
      .max(32)
      .meta({ description: "Brokers to ask for the cluster's others first, as host:port." }),
    topic: z
      .string()
      .min(1)
      .max(249)
      .regex(
        new RegExp(`^${templatePart("A-Za-z0-9._-")}$`),
        "must hold only letters, digits, '.', '_', '-', {schema}, {table} and {operation}",
      )
      .meta({
        description:
          "Topic of each message; it has to exist. {schema}, {table} and {operation} (insert, update, delete, truncate, schemachange) stand for those of the event; in names every other character than letters, digits and '_' is written as - and two hexadecimal digits a byte.",
      }),
    format: messageFormat,
    compression: z.enum(COMPRESSIONS).default("None").meta({
      description: "How batches are compressed: None, Gzip, Snappy, Lz4 or Zstd. Default: None.",
    }),
    sasl: sasl.optional(),
    tls: brokerTls(
      "Connects by TLS; `tls: {}` trusts the system's authorities. Default: plain text.",
    ).optional(),
  })
  .meta({
    description:
      "Delivery to Apache Kafka; or set another transport. The message's key is the event's `partitionkey`, so events of one row stay in order; the producer is idempotent and waits for all replicas in sync. Default: none.",
  });

export type KafkaSpec = z.output<typeof kafka>;
