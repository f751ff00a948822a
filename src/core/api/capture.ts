import { z } from "zod";
import { integer, sqlName } from "./fields.ts";
import { withRules } from "./rule.ts";

export const OPERATIONS = ["Insert", "Update", "Delete", "Truncate"] as const;
export type Operation = (typeof OPERATIONS)[number];

export const operations = z.array(z.enum(OPERATIONS)).min(1).max(4);

const table = withRules(
  z.strictObject({
    schema: sqlName("Schema of the table, as the catalog spells it (case matters, no quotes)."),
    name: sqlName("Name of the table, or '*' for every table of the schema, also those created later."),
    exclude: z
      .array(sqlName("Name of a table."))
      .min(1)
      .max(256)
      .optional()
      .meta({
        description: "Tables that '*' leaves out. Default: none.",
        "x-kubernetes-list-type": "set",
      }),
    operations: operations.default([...OPERATIONS]).meta({
      description: "Which changes are captured. Default: Insert, Update, Delete, Truncate.",
      "x-kubernetes-list-type": "set",
    }),
  }),
  [
    {
      cel: "!has(self.exclude) || self.name == '*'",
      message: "`exclude` may be set only when `name` is '*'",
      holds: (table) => table.exclude === undefined || table.name === "*",
    },
  ],
);

const schemaName = withRules(
  sqlName(
    "Schema in the database for everything pg-events creates there; one PgEventSource each. Cannot be changed. Default: pgevents.",
  ).regex(/^[a-z_][a-z0-9_]*$/, "must hold only lower-case letters, digits and '_', and not begin with a digit"),
  [
    {
      cel: "!self.startsWith('pg_')",
      message: "must not begin with 'pg_': PostgreSQL reserves such names",
      holds: (name) => !name.startsWith("pg_"),
    },
    {
      cel: "self != 'public' && self != 'information_schema'",
      message: "must be a schema of its own, not `public` or `information_schema`",
      holds: (name) => name !== "public" && name !== "information_schema",
    },
  ],
);

export const captureSchema = z
  .strictObject({
    schemaName: schemaName.default("pgevents"),
    tables: z
      .array(table)
      .min(1)
      .max(256)
      .optional()
      .meta({
        description:
          "The tables to capture. Where several entries fit a table, an entry with its name wins over '*'. Default: every ordinary table of every schema that is not PostgreSQL's own.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["schema", "name"],
      }),
    schemaChanges: z
      .enum(["Auto", "Off"])
      .default("Auto")
      .meta({
        description:
          "Auto: a table that is created, altered or dropped gets its capture renewed within seconds, without a new build by hand. Off: only when a build is run or the spec changes. Default: Auto.",
      }),
    retentionSeconds: integer(
      0,
      31_536_000,
      "Seconds a change event is kept in the outbox at least after every callback has it. Default: 86400 (one day).",
    ).default(86_400),
  })
  .meta({ description: "What is captured." });

export type CaptureSpec = z.output<typeof captureSchema>;
export type TableSpec = NonNullable<CaptureSpec["tables"]>[number];
