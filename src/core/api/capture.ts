import { z } from "zod";
import { integer, listByKeys, setOf, sqlName, withEmptyDefault } from "./fields.ts";
import { withRules, withTransitionRules } from "./rule.ts";

export const OPERATIONS = ["Insert", "Update", "Delete", "Truncate"] as const;
export type Operation = (typeof OPERATIONS)[number];

export const operations = setOf(z.enum(OPERATIONS)).min(1).max(4);

const columnNames = (description: string) =>
  setOf(sqlName("Name of a column.")).min(1).max(64).optional().meta({ description });

const columns = withRules(
  z.strictObject({
    include: columnNames("Only these columns are captured. Default: all."),
    exclude: columnNames("These columns are not captured. Default: none."),
    mask: columnNames("Values of these columns are replaced by ***; null stays null. Default: none."),
    hash: columnNames(
      "Values of these columns are replaced by their SHA-256, salted for this capture: equal values stay equal; null stays null. Default: none.",
    ),
  }),
  [
    {
      cel: "!has(self.include) || !has(self.exclude)",
      message: "`include` and `exclude` may not be set together",
      holds: (columns) => columns.include === undefined || columns.exclude === undefined,
    },
  ],
);

const table = withRules(
  z.strictObject({
    schema: sqlName("Schema of the table, as the catalog spells it (case matters, no quotes)."),
    name: sqlName("Name of the table, or '*' for every table of the schema, also those created later."),
    exclude: setOf(sqlName("Name of a table."))
      .min(1)
      .max(256)
      .optional()
      .meta({ description: "Tables that '*' leaves out. Default: none." }),
    operations: operations
      .default([...OPERATIONS])
      .meta({ description: "Which changes are captured. Default: Insert, Update, Delete, Truncate." }),
    columns: columns.optional().meta({
      description:
        "What of a row leaves the table; the rest is not even written to the outbox. A column that is named for a table and is not there (any more) leaves nothing of the row, until this is corrected. Default: every column as it is.",
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
  z
    .string()
    .min(1)
    .max(63)
    .regex(
      /^[a-z_][a-z0-9_]*$/,
      "must hold only lower-case letters, digits and '_', and not begin with a digit",
    )
    .meta({
      description:
        "Schema in the database for everything pg-events creates there; one PgEventSource each. Cannot be changed. Default: pgevents.",
    }),
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

const settingName = (description: string) =>
  z
    .string()
    .max(63)
    .regex(
      /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$/,
      "must be a setting of your own, with a dot, such as app.user",
    )
    .meta({ description });

const context = z
  .strictObject({
    settings: setOf(settingName("Name of a setting, such as app.user.")).min(1).max(16).optional().meta({
      description:
        "Settings of the writer's session or transaction (`set_config('app.user', …, true)`) whose values are kept, null where one is not set. Default: none.",
    }),
    traceparent: settingName(
      "Setting that holds the W3C traceparent of the writer; kept where it is set. Default: none.",
    ).optional(),
    query: z.boolean().default(false).meta({
      description:
        "Adds the text of the statement that made the change, as the client sent it; it may hold values that columns hide. Default: false.",
    }),
  })
  .meta({
    description: "What is kept of the circumstances of a change, beside the role and the application's name.",
  });

const SCHEMA_NAME_IMMUTABLE = {
  // Guarded with has(): the API server checks the rule on the bare default `{}` too.
  cel: "!has(self.schemaName) || !has(oldSelf.schemaName) || self.schemaName == oldSelf.schemaName",
  message: "`schemaName` cannot be changed; delete the PgEventSource and create it anew",
};

export const captureSchema = withTransitionRules(
  z.strictObject({
    schemaName: schemaName.default("pgevents"),
    tables: listByKeys(["schema", "name"], table).min(1).max(256).optional().meta({
      description:
        "The tables to capture. Where several entries fit a table, an entry with its name wins over '*'. Default: every ordinary table of every schema that is not PostgreSQL's own.",
    }),
    schemaChanges: z.enum(["Auto", "EventTrigger", "Poll", "Off"]).default("Auto").meta({
      description:
        "How a table that is created, altered or dropped is noticed; its capture is renewed and an event tells of it. EventTrigger: in the same transaction, by event triggers, which only a superuser can make. Poll: within seconds, by the worker. Auto: EventTrigger where the role may, else Poll. Off: only when a build is run or the spec changes, and no events. Default: Auto.",
    }),
    context: withEmptyDefault(context),
    retentionSeconds: integer(
      0,
      31_536_000,
      "Seconds a change event is kept in the outbox at least after every callback has it. Default: 86400 (one day).",
    ).default(86_400),
  }),
  [SCHEMA_NAME_IMMUTABLE],
).meta({ description: "What is captured." });

export type CaptureSpec = z.output<typeof captureSchema>;
export type TableSpec = NonNullable<CaptureSpec["tables"]>[number];
