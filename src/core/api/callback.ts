import { z } from "zod";
import { operations } from "./capture.ts";
import { integer, listByKeys, secretKeyRef, sqlName, withEmptyDefault } from "./fields.ts";
import { withRules } from "./rule.ts";

const FORBIDDEN_HEADERS =
  /^(host|content-length|content-type|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|ce-.*)$/i;

const WEB_ADDRESS = /^https?:\/\/[^\s/?#]+([/?][^\s#]*)?$/;
/** The API server's isURL refuses it, `URL` does not. */
const BROKEN_ESCAPE = /%(?![0-9a-fA-F]{2})/;

const uri = withRules(
  z.string().min(1).max(2048).meta({
    description: "Absolute http or https address that gets the events by POST. Redirects are not followed.",
  }),
  [
    {
      cel: `self.matches(r'${WEB_ADDRESS.source}') && isURL(self) && (url(self).getPort() == '' || int(url(self).getPort()) <= 65535)`,
      message: "must be an absolute http or https URL, without white space and without a fragment",
      holds: (text) => WEB_ADDRESS.test(text) && !BROKEN_ESCAPE.test(text) && URL.canParse(text),
    },
    {
      cel: "!self.matches('^[a-zA-Z]+://[^/?#]*@')",
      message: "must not hold a user name or password; use `headers` with a Secret",
      holds: (text) => !/^[a-zA-Z]+:\/\/[^/?#]*@/.test(text),
    },
  ],
);

const header = withRules(
  z.strictObject({
    name: z
      .string()
      .min(1)
      .max(128)
      .regex(/^[A-Za-z0-9-]+$/, "must hold only letters, digits and '-'")
      .meta({ description: "Name of the header." }),
    value: z
      .string()
      .max(4096)
      .regex(/^[\t\x20-\x7e]*$/, "must hold printable ASCII characters only")
      .optional()
      .meta({ description: "Value that is no secret; or set `secretKeyRef`. Default: none." }),
    secretKeyRef: secretKeyRef("Secret whose value is sent; or set `value`. Default: none.").optional(),
  }),
  [
    {
      cel: "has(self.value) != has(self.secretKeyRef)",
      message: "exactly one of `value` and `secretKeyRef` must be set",
      holds: (header) => (header.value === undefined) !== (header.secretKeyRef === undefined),
    },
    {
      cel: `!self.name.matches('(?i)${FORBIDDEN_HEADERS.source}')`,
      message: "this header is set by pg-events or by HTTP itself",
      holds: (header) => !FORBIDDEN_HEADERS.test(header.name),
    },
  ],
);

export const FORMATS = ["CloudEventsBinary", "CloudEventsStructured", "CloudEventsBatch"] as const;

const http = z
  .strictObject({
    uri,
    format: z.enum(FORMATS).default("CloudEventsBinary").meta({
      description:
        "How events are written into requests: CloudEventsBinary (attributes in headers), CloudEventsStructured (one JSON object), CloudEventsBatch (a JSON array of up to `batch.maxEvents`). Default: CloudEventsBinary.",
    }),
    headers: listByKeys(["name"], header)
      .max(16)
      .optional()
      .meta({ description: "Headers added to every request. Default: none." }),
    tls: z
      .strictObject({
        caSecretRef: secretKeyRef(
          "Certificate authorities (PEM) to trust. Default: the system's.",
          "ca.crt",
        ).optional(),
      })
      .optional()
      .meta({ description: "Transport security of https requests. Default: the system's authorities." }),
  })
  .meta({ description: "Delivery by HTTP POST. Any 2xx answer acknowledges." });

const filter = z
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
  })
  .meta({ description: "Which of the captured events this callback gets. Default: all." });

const batch = z
  .strictObject({
    maxEvents: integer(
      1,
      10_000,
      "Events in one request at most; needs the format CloudEventsBatch. Default: 100.",
    ).default(100),
    maxBytes: integer(
      1024,
      67_108_864,
      "Bytes in one request at most; a single larger event goes alone. Default: 1048576 (1 MiB).",
    ).default(1_048_576),
    maxWaitMilliseconds: integer(
      0,
      60_000,
      "Milliseconds to wait for a batch to fill. Default: 0 (send what is there).",
    ).default(0),
  })
  .meta({ description: "Size of batches, for the format CloudEventsBatch." });

const delivery = withRules(
  z.strictObject({
    timeoutSeconds: integer(1, 600, "Seconds to wait for the answer to one request. Default: 10.").default(
      10,
    ),
    attempts: integer(
      1,
      1000,
      "Attempts for one event, the first included, until it becomes a dead letter. Default: 20.",
    ).default(20),
    backoffSeconds: integer(
      1,
      3600,
      "Seconds to wait at most before the second attempt; doubles each time. Default: 1.",
    ).default(1),
    maxBackoffSeconds: integer(1, 86_400, "Seconds to wait at most between attempts. Default: 300.").default(
      300,
    ),
    maxInFlight: integer(1, 1024, "Requests under way at once at most. Default: 16.").default(16),
  }),
  [
    {
      cel: "!has(self.maxBackoffSeconds) || !has(self.backoffSeconds) || self.maxBackoffSeconds >= self.backoffSeconds",
      message: "`maxBackoffSeconds` must not be less than `backoffSeconds`",
      holds: (delivery) => delivery.maxBackoffSeconds >= delivery.backoffSeconds,
    },
  ],
).meta({ description: "Attempts, waits and limits." });

export const callbackSchema = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(63)
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, "must be a lower-case DNS label")
    .meta({ description: "Name of the callback; its checkpoint in the database is kept under it." }),
  suspend: z
    .boolean()
    .default(false)
    .meta({ description: "Stops delivery to this callback; events wait in the outbox. Default: false." }),
  filter: filter.optional(),
  ordering: z.enum(["Key", "Source", "None"]).default("Key").meta({
    description:
      "Key: events of one row go one after the other. Source: all events do. None: in any order. Default: Key.",
  }),
  http,
  batch: withEmptyDefault(batch),
  delivery: withEmptyDefault(delivery),
});

export type CallbackSpec = z.output<typeof callbackSchema>;
