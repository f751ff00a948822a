import { z } from "zod";
import { integer, secretKey, secretRef, tlsSecrets, withEmptyDefault } from "./fields.ts";
import { withRules } from "./rule.ts";

const keys = z
  .strictObject({
    uri: secretKey(
      "Key that holds a whole postgres:// URI. Set it to use the URI instead of the single keys. Default: not used.",
    ).optional(),
    host: secretKey("Key of the host name. Default: host.").default("host"),
    port: secretKey("Key of the port; 5432 when the Secret has no such key. Default: port.").default("port"),
    dbname: secretKey("Key of the database name. Default: dbname.").default("dbname"),
    username: secretKey("Key of the role to log in as. Default: username.").default("username"),
    password: secretKey("Key of the password. Default: password.").default("password"),
  })
  .meta({
    description:
      "Which keys of the Secret hold what. The defaults are those of a CloudNativePG application Secret.",
  });

const tls = withRules(
  z.strictObject({
    mode: z.enum(["VerifyFull", "VerifyCA", "Require", "Disable"]).default("VerifyFull").meta({
      description:
        "VerifyFull checks the certificate chain and the host name, VerifyCA the chain only, Require encrypts without a check, Disable uses plain text. Default: VerifyFull.",
    }),
    serverName: z
      .string()
      .min(1)
      .max(253)
      .optional()
      .meta({ description: "Host name the certificate must carry. Default: the host connected to." }),
    ...tlsSecrets,
  }),
  [
    {
      cel: "!has(self.mode) || self.mode != 'VerifyCA' || has(self.caSecretRef)",
      message: "`caSecretRef` must be set when `mode` is VerifyCA",
      holds: (tls) => tls.mode !== "VerifyCA" || tls.caSecretRef !== undefined,
    },
  ],
).meta({ description: "Transport security of the connection to the database." });

export const databaseSchema = z
  .strictObject({
    secretRef: secretRef(
      "Secret with the connection: host, port, dbname, username, password (or `uri`). The host is taken from the Secret only.",
    ),
    keys: withEmptyDefault(keys),
    tls: withEmptyDefault(tls),
    connectTimeoutSeconds: integer(1, 300, "Seconds to wait for a connection. Default: 10.").default(10),
    lockTimeoutSeconds: integer(
      1,
      300,
      "Seconds a build may wait for a lock on a table; no writer waits behind it for longer. Default: 3.",
    ).default(3),
    statementTimeoutSeconds: integer(
      1,
      3600,
      "Seconds one statement of a build may take. Default: 60.",
    ).default(60),
  })
  .meta({ description: "The database whose changes are captured." });

export type DatabaseSpec = z.output<typeof databaseSchema>;
export type TlsSpec = DatabaseSpec["tls"];
