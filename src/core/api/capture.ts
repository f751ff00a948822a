import { z } from "zod";
import { conditionProblem } from "../capture/condition.ts";
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

const condition = (rows: string) =>
  z
    .string()
    .min(1)
    .max(1024)
    .superRefine((text, context) => {
      const problem = conditionProblem(text);
      if (problem !== null) context.addIssue({ code: "custom", message: problem });
    })
    .optional()
    .meta({ description: `SQL condition over ${rows}. Default: every one.` });

const when = z.strictObject({
  insert: condition("the row, as `new`: `new.total > 100`"),
  update: condition("the row before and after, as `old` and `new`: `old.status is distinct from new.status`"),
  delete: condition("the row, as `old`"),
});

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
    when: when.optional().meta({
      description:
        "Which changes of rows are captured: those a condition holds for, evaluated by PostgreSQL as a part of the write. It may use functions and operators of PostgreSQL itself that change nothing, and no subquery. A column that it names cannot be dropped, nor its type be changed, before the condition is. Default: every change.",
    }),
    updateColumns: columnNames(
      "An Update is captured only when it changes a value of one of these columns. Default: every Update.",
    ),
    key: setOf(sqlName("Name of a column.")).min(1).max(32).optional().meta({
      description:
        "Columns that identify a row in events, and by which events are ordered. Default: the primary key.",
    }),
    payload: z.enum(["Row", "Changes", "Key"]).optional().meta({
      description:
        "What of a captured row an event holds. Row: all of it, before and after. Changes: of an Update the columns that it changed, and the key. Key: the key only. Default: Row.",
    }),
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
    {
      cel: "self.name != '*' || !(has(self.when) || has(self.updateColumns) || has(self.key))",
      message: "`when`, `updateColumns` and `key` may be set only for a table by its name",
      holds: ({ name, when, updateColumns, key }) =>
        name !== "*" || (when === undefined && updateColumns === undefined && key === undefined),
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

const backlog = withRules(
  z.strictObject({
    maxBytes: integer(
      16_777_216,
      1_125_899_906_842_624,
      "Bytes that the outbox may take on disk, indexes included. Default: no limit.",
    ).optional(),
    maxAgeSeconds: integer(
      300,
      31_536_000,
      "Seconds that an event may wait for a callback. Default: no limit.",
    ).optional(),
    onLimit: z.enum(["Alert", "DropOldest", "Pause"]).default("Alert").meta({
      description:
        "What happens when a limit is reached. Alert: condition Delivering becomes False and metrics tell, nothing else. DropOldest: the oldest part of the outbox is emptied, a quarter of maxBytes or a third of maxAgeSeconds at a time; callbacks that have not got it lose it. Pause: changes are not captured, and so lost to every callback, until the outbox is down to half of the limit. What is lost is counted in status. DropOldest and Pause first empty what every callback has, before retentionSeconds are over. Default: Alert.",
    }),
  }),
  [
    {
      // Guarded with has(): the API server checks the rule on the bare default `{}` too.
      cel: "!has(self.onLimit) || self.onLimit == 'Alert' || has(self.maxBytes) || has(self.maxAgeSeconds)",
      message: "`maxBytes` or `maxAgeSeconds` must be set when `onLimit` is DropOldest or Pause",
      holds: ({ onLimit, maxBytes, maxAgeSeconds }) =>
        onLimit === "Alert" || maxBytes !== undefined || maxAgeSeconds !== undefined,
    },
  ],
).meta({ description: "Limits of what waits in the outbox for callbacks." });

const SCHEMA_NAME_IMMUTABLE = {
  // Guarded with has(): the API server checks the rule on the bare default `{}` too.
  cel: "!has(self.schemaName) || !has(oldSelf.schemaName) || self.schemaName == oldSelf.schemaName",
  message: "`schemaName` cannot be changed; delete the PgEventSource and create it anew",
};

export const captureSchema = withTransitionRules(
  z.strictObject({
    schemaName: schemaName.default("pgevents"),
    install: z.enum(["Managed", "Manual"]).default("Managed").meta({
      description:
        "Who changes the database. Managed: pg-events does. Manual: pg-events changes nothing there beyond the rows of its own schema; the SQL to run is in a ConfigMap, and status says whether it was run. Default: Managed.",
    }),
    tables: listByKeys(["schema", "name"], table).min(1).max(256).optional().meta({
      description:
        "The tables to capture. Where several entries fit a table, an entry with its name wins over '*'. Default: every ordinary table of every schema that is not PostgreSQL's own.",
    }),
    schemaChanges: z.enum(["Auto", "EventTrigger", "Poll", "Off"]).default("Auto").meta({
      description:
        "How a table that is created, altered or dropped is noticed; its capture is renewed and an event tells of it. EventTrigger: in the same transaction, by event triggers, which only a superuser can make. Poll: within seconds, by the worker. Auto: EventTrigger where the role may, else Poll. Off: only when a build is run or the spec changes, and no events. Default: Auto.",
    }),
    context: withEmptyDefault(context),
    onError: z.enum(["Abort", "Skip"]).default("Abort").meta({
      description:
        "What becomes of a write whose change cannot be captured, when the disk is full say. Abort: it fails, and nothing is lost. Skip: it goes on, and is counted as not captured. Default: Abort.",
    }),
    replicated: z.boolean().default(false).meta({
      description:
        "Also captures what a subscription of logical replication, or a session with `session_replication_role = replica`, writes. Default: false.",
    }),
    retentionSeconds: integer(
      0,
      31_536_000,
      "Seconds a change event is kept in the outbox at least after every callback has it. Default: 86400 (one day).",
    ).default(86_400),
    backlog: withEmptyDefault(backlog),
  }),
  [SCHEMA_NAME_IMMUTABLE],
).meta({ description: "What is captured." });

export type CaptureSpec = z.output<typeof captureSchema>;
export type BacklogSpec = CaptureSpec["backlog"];
export type TableSpec = NonNullable<CaptureSpec["tables"]>[number];
