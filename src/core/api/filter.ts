import { z } from "zod";
import { operations } from "./capture.ts";
import { listByKeys, sqlName } from "./fields.ts";

export const filter = z
  .strictObject({
    tables: listByKeys(
      ["schema", "name"],
      z.strictObject({
        schema: sqlName("Schema of the table."),
        name: sqlName("Name of the table, or '*' for every table of the schema."),
      }),
    )
      .min(1)
      .max(256)
      .optional()
      .meta({ description: "Only events of these tables. Default: all captured." }),
    operations: operations.optional().meta({ description: "Only these operations. Default: all captured." }),
    schemaChanges: z.enum(["Include", "Exclude", "Only"]).optional().meta({
      description:
        "Whether the callback gets events of changed tables, besides those of rows, or only those. Default: Include for `module`, Exclude for the others.",
    }),
    deadLetters: z.enum(["Include", "Only"]).default("Include").meta({
      description:
        "Only: the callback gets nothing but dead letters of others (`deadLetterCallback`), which pass every filter. Default: Include.",
    }),
    expression: z.string().min(1).max(2048).optional().meta({
      description:
        "CEL expression that is true for the rows to get, asked after the other fields, for Insert, Update and Delete. Variables: `operation`, `schema`, `table`, `time`, `key`, `oldKey`, `old`, `new`, `row` (the row after the change, before it for Delete), `changed` (names of changed columns) and `context`. An event of which it cannot say (no such column, a comparison with null) is delivered. Example: `row.total > 100 && 'status' in changed`. Default: all.",
    }),
  })
  .meta({ description: "Which of the captured events this callback gets. Default: all." });
