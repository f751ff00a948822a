import { z } from "zod";
import { brokerTls, loginFields, messageFormat, templatePart } from "./broker.ts";
import { secretKeyRef, setOf } from "./fields.ts";
import { withRules } from "./rule.ts";

const SUBJECT_PART = templatePart("A-Za-z0-9_-");

const auth = withRules(
  z.strictObject({
    login: z
      .strictObject(loginFields)
      .optional()
      .meta({ description: "User name and password; or set another way. Default: none." }),
    tokenSecretRef: secretKeyRef("Secret with a token; or set another way. Default: none.").optional(),
    nkeySecretRef: secretKeyRef(
      "Secret with the seed of an nkey (SU…); or set another way. Default: none.",
      "seed",
    ).optional(),
    credsSecretRef: secretKeyRef(
      "Secret with a credentials file (JWT and seed, as `nsc` writes it); or set another way. Default: none.",
      "user.creds",
    ).optional(),
  }),
  [
    {
      cel: "[has(self.login), has(self.tokenSecretRef), has(self.nkeySecretRef), has(self.credsSecretRef)].filter(x, x).size() == 1",
      message: "exactly one of `login`, `tokenSecretRef`, `nkeySecretRef` and `credsSecretRef` must be set",
      holds: (auth) => Object.values(auth).filter((way) => way !== undefined).length === 1,
    },
  ],
).meta({ description: "How the worker logs in. Default: not at all." });

export const nats = z
  .strictObject({
    servers: setOf(
      z
        .string()
        .min(1)
        .max(512)
        .regex(
          /^(nats|tls):\/\/(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$/,
          "must be nats://host:port or tls://host:port, without a user name",
        ),
    )
      .min(1)
      .max(16)
      .meta({
        description:
          "Addresses of the cluster: nats://host:port, or tls://host:port where TLS is a must. The port is 4222 when absent.",
      }),
    subject: z
      .string()
      .min(1)
      .max(512)
      .regex(
        new RegExp(`^${SUBJECT_PART}(\\.${SUBJECT_PART})*$`),
        "must be words of letters, digits, '-', '_', {schema}, {table} and {operation}, with '.' between them",
      )
      .default("pgevents.{schema}.{table}.{operation}")
      .meta({
        description:
          "Subject of each message; a stream has to hold it. {schema}, {table} and {operation} (insert, update, delete, truncate, schemachange) stand for those of the event; in names every other character than letters, digits, '-' and '_' is written as % and two hexadecimal digits a byte. Default: pgevents.{schema}.{table}.{operation}.",
      }),
    stream: z
      .string()
      .min(1)
      .max(255)
      .regex(/^[^\s.*>/\\]+$/, "must not hold white space, '.', '*', '>', '/' or '\\'")
      .optional()
      .meta({
        description:
          "Name of the stream that must take the messages; events are not delivered to another one. Default: whichever stream has the subject.",
      }),
    format: messageFormat,
    auth: auth.optional(),
    tls: brokerTls(
      "Transport security; a server that offers TLS is always talked to by TLS. Default: the system's authorities.",
    ).optional(),
  })
  .meta({
    description:
      "Delivery to NATS JetStream; or set another transport. The stream's acknowledgement acknowledges; the header Nats-Msg-Id lets the stream drop repeats. Default: none.",
  });

export type NatsSpec = z.output<typeof nats>;
