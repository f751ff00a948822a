import { z } from "zod";
import { brokerTls } from "./broker.ts";
import { integer, listByKeys, objectName, secretKey, secretKeyRef, withEmptyDefault } from "./fields.ts";
import { filter } from "./filter.ts";
import { ONE_ADDRESS, ref, uriFrom } from "./http-address.ts";
import { kafka } from "./kafka.ts";
import { nats } from "./nats.ts";
import { type Rule, withRules } from "./rule.ts";

const FORBIDDEN_HEADERS =
  /^(host|content-length|content-type|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|ce-.*|webhook-.*|traceparent)$/i;

const WEB_ADDRESS = /^https?:\/\/[^\s/?#]+([/?][^\s#]*)?$/;
/** The API server's isURL refuses it, `URL` does not. */
const BROKEN_ESCAPE = /%(?![0-9a-fA-F]{2})/;

const uri = withRules(
  z.string().min(1).max(2048).meta({
    description:
      "Absolute http or https address that gets the events by POST; or set `ref` or `uriFrom`. Redirects are not followed. Default: none.",
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

export const FORMATS = ["CloudEventsBinary", "CloudEventsStructured", "CloudEventsBatch", "Classic"] as const;

const http = withRules(
  z.strictObject({
    uri: uri.optional(),
    ref: ref.optional(),
    uriFrom: uriFrom.optional(),
    format: z.enum(FORMATS).default("CloudEventsBinary").meta({
      description:
        "How events are written into requests: CloudEventsBinary (attributes in headers), CloudEventsStructured (one JSON object), CloudEventsBatch (a JSON array of up to `batch.maxEvents`), Classic (the JSON object of the Python tool pg_events; for its `query` set `capture.context.query`). Default: CloudEventsBinary.",
    }),
    headers: listByKeys(["name"], header)
      .max(16)
      .optional()
      .meta({ description: "Headers added to every request. Default: none." }),
    signing: z
      .strictObject({
        secretKeyRef: secretKeyRef("Secret with the key: `whsec_` and base64 of 24 bytes or more."),
        previousSecretKeyRef: secretKeyRef(
          "Secret with the key before, while receivers still check by it; requests carry both signatures. Default: none.",
        ).optional(),
      })
      .optional()
      .meta({
        description:
          "Signs every request as Standard Webhooks has it: headers webhook-id, webhook-timestamp and webhook-signature. Default: no signature.",
      }),
    protocol: z.enum(["Http1", "Http2"]).default("Http1").meta({
      description:
        "Http1 sends one request at a time over each of up to `delivery.maxInFlight` connections; Http2 sends many over one, to https receivers that offer it. Default: Http1.",
    }),
    tls: brokerTls("Transport security of https requests. Default: the system's authorities.").optional(),
  }),
  [ONE_ADDRESS],
).meta({
  description: "Delivery by HTTP POST; or set another transport. Any 2xx answer acknowledges. Default: none.",
});

const modulePath = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[^\s].*\.(js|mjs|cjs|ts|mts|cts)$/, "must be the path of a JavaScript or TypeScript file")
  .meta({
    description:
      "File in the worker's image, or on this machine for a local worker; or set `configMapRef`. Default: none.",
  });

const module = withRules(
  z.strictObject({
    configMapRef: z
      .strictObject({
        name: objectName("Name of the ConfigMap, in the namespace of the PgEventSource."),
        key: secretKey("Key in the ConfigMap; it ends in .mjs or .js. Default: index.mjs.").default(
          "index.mjs",
        ),
      })
      .optional()
      .meta({ description: "ConfigMap that holds the module; or set `path`. Default: none." }),
    path: modulePath.optional(),
    format: z.enum(["CloudEvents", "Classic"]).default("CloudEvents").meta({
      description:
        "What the functions get: CloudEvents (the object of a structured CloudEvent) or Classic (the object of the Python tool pg_events; for its `query` set `capture.context.query`). Default: CloudEvents.",
    }),
    memoryMegabytes: integer(
      16,
      4096,
      "Mebibytes of memory the module is meant to use. When it takes more than twice that and 128, garbage included, it is started anew and the attempt counts as failed. Default: 64.",
    ).default(64),
  }),
  [
    {
      cel: "has(self.configMapRef) != has(self.path)",
      message: "exactly one of `configMapRef` and `path` must be set",
      holds: (module) => (module.configMapRef === undefined) !== (module.path === undefined),
    },
  ],
).meta({
  description:
    "Delivery to functions of your own JavaScript module: `onData(event, context)` and `onSchemaChange(event, context)`, in a thread of the worker. What they return, or its promise, acknowledges; what they throw is a failure. `delivery.timeoutSeconds` bounds each call. Default: none.",
});

const stdout = z.strictObject({}).meta({
  description:
    "Writes each event as a line of JSON (a structured CloudEvent) to the worker's standard output, where nothing else is written but by modules; or set another transport. Default: none.",
});

export const TRANSPORTS = ["http", "module", "nats", "kafka", "stdout"] as const;

const batch = z
  .strictObject({
    maxEvents: integer(
      1,
      10_000,
      "Events in one request at most: of the HTTP format CloudEventsBatch, of `kafka` and of `stdout`. Default: 100.",
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
  .meta({ description: "Size of batches: of the HTTP format CloudEventsBatch, of `kafka` and of `stdout`." });

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

const callbackName = (description: string) =>
  z
    .string()
    .min(1)
    .max(63)
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, "must be a lower-case DNS label")
    .meta({ description });

const callback = z.strictObject({
  name: callbackName("Name of the callback; its checkpoint in the database is kept under it."),
  suspend: z
    .boolean()
    .default(false)
    .meta({ description: "Stops delivery to this callback; events wait in the outbox. Default: false." }),
  filter: filter.optional(),
  deadLetterCallback: callbackName(
    "Name of another callback, which gets the events that become dead letters of this one, with the attributes `pgeventsdeadlettercallback`, `pgeventsdeadlettererror` and `pgeventsdeadletterattempts`. They stay stored until it has them. Default: none; they stay stored until somebody sees to them.",
  ).optional(),
  ordering: z.enum(["Key", "Source", "None"]).default("Key").meta({
    description:
      "Key: events of one row go one after the other. Source: all events do. None: in any order. Default: Key.",
  }),
  http: http.optional(),
  module: module.optional(),
  nats: nats.optional(),
  kafka: kafka.optional(),
  stdout: stdout.optional(),
  batch: withEmptyDefault(batch),
  delivery: withEmptyDefault(delivery),
});

export const callbackSchema = withRules(callback, [
  {
    cel: `[${TRANSPORTS.map((name) => `has(self.${name})`).join(", ")}].filter(x, x).size() == 1`,
    message: "exactly one of `http`, `module`, `nats`, `kafka` and `stdout` must be set",
    holds: (callback) => TRANSPORTS.filter((name) => callback[name] !== undefined).length === 1,
  },
]);

/** Without it a dead letter could go round in circles. */
export const DEAD_LETTER_RULE: Rule<CallbackSpec[]> = {
  cel: "self.all(one, !has(one.deadLetterCallback) || self.exists(other, other.name == one.deadLetterCallback && other.name != one.name && !has(other.deadLetterCallback)))",
  message:
    "`deadLetterCallback` must be the name of another callback, one that has no `deadLetterCallback` itself",
  holds: (callbacks) =>
    callbacks.every(
      ({ name, deadLetterCallback: wanted }) =>
        wanted === undefined ||
        callbacks.some(
          (other) => other.name === wanted && wanted !== name && other.deadLetterCallback === undefined,
        ),
    ),
};

export type CallbackSpec = z.output<typeof callbackSchema>;
export type HttpSpec = NonNullable<CallbackSpec["http"]>;
export type ModuleSpec = NonNullable<CallbackSpec["module"]>;
