/**
 * Manifests that a PgEventSource rule accepts or refuses. The same table goes through `parse`
 * (test/core/api-rules.test.ts) and through a real API server (test/kubernetes/crd-rules.test.ts):
 * each CEL rule and its TypeScript twin have to agree on all of it.
 */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  spec: Record<string, unknown>;
}

export interface RuleCases {
  /** The message of the rule; what is refused is refused with it. */
  rule: string;
  accepted: Manifest[];
  refused: Manifest[];
}

const DATABASE = { secretRef: { name: "shop-db" } };
const HTTP = { uri: "https://orders.example.com/events" };

/** A complete manifest with some fields of the spec replaced; `undefined` leaves one out. */
export function source(spec: Record<string, unknown> = {}, name = "shop"): Manifest {
  const complete = { database: DATABASE, callbacks: [{ name: "orders", http: HTTP }], ...spec };
  const kept = Object.entries(complete).filter(([, value]) => value !== undefined);
  return {
    apiVersion: "pgevents.dev/v1alpha1",
    kind: "PgEventSource",
    metadata: { name },
    spec: Object.fromEntries(kept),
  };
}

const tls = (fields: object) => source({ database: { ...DATABASE, tls: fields } });
const capture = (fields: object) => source({ capture: fields });
const table = (fields: object) => capture({ tables: [{ schema: "public", name: "orders", ...fields }] });
const callback = (fields: object) => source({ callbacks: [{ name: "orders", http: HTTP, ...fields }] });
const uri = (text: string) => callback({ http: { uri: text } });
const header = (fields: object) => callback({ http: { ...HTTP, headers: [fields] } });
const module = (fields: object) => callback({ http: undefined, module: fields });
const NATS = { servers: ["nats://nats:4222"] };
const nats = (fields: object) => callback({ http: undefined, nats: { ...NATS, ...fields } });
const KAFKA = { brokers: ["kafka:9092"], topic: "events" };
const kafka = (fields: object) => callback({ http: undefined, kafka: { ...KAFKA, ...fields } });
const filterTable = (fields: object) =>
  callback({ filter: { tables: [{ schema: "s", name: "t", ...fields }] } });

/** Callbacks by name, each with its `deadLetterCallback`. */
const callbacks = (...named: [name: string, deadLetterCallback?: string][]) =>
  source({
    callbacks: named.map(([name, deadLetterCallback]) => ({
      name,
      http: HTTP,
      ...(deadLetterCallback === undefined ? {} : { deadLetterCallback }),
    })),
  });

const SECRET_KEY = { name: "token", key: "value" };
const BYTES_63 = `${"é".repeat(31)}x`;
const BYTES_64 = "é".repeat(32);

const limits = (amounts: object) => source({ worker: { resources: { limits: amounts } } });

export const RULE_CASES: RuleCases[] = [
  {
    rule: "must be at most 52 characters",
    accepted: [source({}, "a".repeat(52))],
    refused: [source({}, "a".repeat(53))],
  },
  {
    rule: "must be a lower-case DNS label: letters, digits and '-', no '.'",
    accepted: [source({}, "shop-2")],
    refused: [source({}, "shop.two")],
  },
  {
    rule: "`caSecretRef` must be set when `mode` is VerifyCA",
    accepted: [tls({ mode: "VerifyCA", caSecretRef: { name: "ca" } }), tls({ mode: "Disable" }), tls({})],
    refused: [tls({ mode: "VerifyCA" })],
  },
  {
    rule: "must not begin with 'pg_': PostgreSQL reserves such names",
    accepted: [capture({ schemaName: "pgevents_2" }), capture({ schemaName: "_pg_" })],
    refused: [capture({ schemaName: "pg_events" })],
  },
  {
    rule: "must be a schema of its own, not `public` or `information_schema`",
    accepted: [capture({ schemaName: "publications" })],
    refused: [capture({ schemaName: "public" }), capture({ schemaName: "information_schema" })],
  },
  {
    rule: "`maxBytes` or `maxAgeSeconds` must be set when `onLimit` is DropOldest or Pause",
    accepted: [
      capture({ backlog: {} }),
      capture({ backlog: { onLimit: "Alert" } }),
      capture({ backlog: { onLimit: "DropOldest", maxBytes: 16_777_216 } }),
      capture({ backlog: { onLimit: "Pause", maxAgeSeconds: 300 } }),
    ],
    refused: [capture({ backlog: { onLimit: "DropOldest" } }), capture({ backlog: { onLimit: "Pause" } })],
  },
  {
    rule: "`exclude` may be set only when `name` is '*'",
    accepted: [table({ name: "*", exclude: ["a"] }), table({})],
    refused: [table({ exclude: ["a"] })],
  },
  {
    rule: "must be at most 63 bytes of UTF-8, the limit of PostgreSQL for a name",
    accepted: [
      table({ schema: BYTES_63, name: 'a"b; --' }),
      table({ name: "*", exclude: [BYTES_63] }),
      table({ columns: { include: [BYTES_63], mask: [BYTES_63], hash: [BYTES_63] } }),
      filterTable({ name: BYTES_63 }),
    ],
    refused: [
      table({ schema: BYTES_64 }),
      table({ name: BYTES_64 }),
      table({ name: "*", exclude: [BYTES_64] }),
      table({ columns: { exclude: [BYTES_64] } }),
      filterTable({ schema: BYTES_64 }),
      filterTable({ name: BYTES_64 }),
    ],
  },
  {
    rule: "must be an absolute http or https URL, without white space and without a fragment",
    accepted: [
      uri("http://a"),
      uri("https://a.example:8443/x/%20?y=1&z=%C3%A9"),
      uri("http://[::1]:80/"),
      uri("http://10.0.0.1?x"),
      uri("https://host_with_underscore.ns.svc:65535/"),
    ],
    refused: [
      uri("orders.example.com"),
      uri("ftp://a/"),
      uri("HTTPS://a/"),
      uri("https:///path"),
      uri("https://"),
      uri("/relative"),
      uri("https://a b/"),
      uri("https://a/b c"),
      uri("https://a/#part"),
      uri("https://a/\n"),
      uri("https://a/%zz"),
      uri("https://a:65536/"),
      uri("https://a:port/"),
      uri("javascript:alert(1)"),
    ],
  },
  {
    rule: "must not hold a user name or password; use `headers` with a Secret",
    accepted: [uri("https://a/?mail=x@example.com"), uri("https://a/@x")],
    refused: [uri("https://user:password@a/"), uri("https://token@a"), uri("https://:@a/")],
  },
  {
    rule: "exactly one of `uri`, `ref` and `uriFrom` must be set",
    accepted: [
      callback({ http: { ref: { name: "stock" } } }),
      callback({ http: { ref: { apiVersion: "eventing.knative.dev/v1", kind: "Broker", name: "default" } } }),
      callback({ http: { uriFrom: "SinkBinding" } }),
    ],
    refused: [
      callback({ http: {} }),
      callback({ http: { ...HTTP, ref: { name: "stock" } } }),
      callback({ http: { ref: { name: "stock" }, uriFrom: "SinkBinding" } }),
    ],
  },
  {
    rule: "`port` is for a Service only; other objects have it in their address",
    accepted: [callback({ http: { ref: { apiVersion: "v1", kind: "Service", name: "stock", port: 8080 } } })],
    refused: [
      callback({ http: { ref: { kind: "Broker", name: "stock", port: 80 } } }),
      callback({ http: { ref: { apiVersion: "serving.knative.dev/v1", name: "stock", port: 80 } } }),
    ],
  },
  {
    rule: "exactly one of `value` and `secretKeyRef` must be set",
    accepted: [
      header({ name: "X-A", value: "" }),
      header({ name: "Authorization", secretKeyRef: SECRET_KEY }),
    ],
    refused: [header({ name: "X-A" }), header({ name: "X-A", value: "b", secretKeyRef: SECRET_KEY })],
  },
  {
    rule: "this header is set by pg-events or by HTTP itself",
    accepted: [header({ name: "X-Host", value: "a" }), header({ name: "Cert", value: "a" })],
    refused: [
      "Host",
      "CONTENT-LENGTH",
      "content-type",
      "ce-id",
      "Ce-Source",
      "Proxy-Authorization",
      "TE",
      "Webhook-Signature",
      "traceparent",
    ].map((name) => header({ name, value: "a" })),
  },
  {
    rule: "`maxBackoffSeconds` must not be less than `backoffSeconds`",
    accepted: [
      callback({ delivery: { backoffSeconds: 5, maxBackoffSeconds: 5 } }),
      callback({ delivery: { backoffSeconds: 300 } }),
    ],
    refused: [
      callback({ delivery: { backoffSeconds: 6, maxBackoffSeconds: 5 } }),
      callback({ delivery: { backoffSeconds: 301 } }),
    ],
  },
  {
    rule: "`when`, `updateColumns` and `key` may be set only for a table by its name",
    accepted: [
      table({ when: { insert: "new.a > 1" }, updateColumns: ["a"], key: ["a", "b"], payload: "Changes" }),
      table({ when: {} }),
      table({ name: "*", payload: "Key", columns: { mask: ["a"] } }),
    ],
    refused: [
      table({ name: "*", when: { update: "new.a > 1" } }),
      table({ name: "*", updateColumns: ["a"] }),
      table({ name: "*", key: ["a"] }),
    ],
  },
  {
    rule: "`include` and `exclude` may not be set together",
    accepted: [
      table({ columns: { include: ["a"], mask: ["a"] } }),
      table({ name: "*", columns: { exclude: ["a"], hash: ["b"] } }),
    ],
    refused: [table({ columns: { include: ["a"], exclude: ["b"] } })],
  },
  {
    rule: "exactly one of `http`, `module`, `nats`, `kafka` and `stdout` must be set",
    accepted: [
      callback({}),
      callback({ http: undefined, module: { path: "/app/shop.mjs" } }),
      nats({}),
      kafka({}),
      callback({ http: undefined, stdout: {} }),
    ],
    refused: [
      callback({ http: undefined }),
      callback({ module: { path: "/app/shop.mjs" } }),
      callback({ stdout: {} }),
      callback({ http: undefined, nats: NATS, kafka: KAFKA }),
    ],
  },
  {
    rule: "`deadLetterCallback` must be the name of another callback, one that has no `deadLetterCallback` itself",
    accepted: [
      callbacks(["a", "letters"], ["b", "letters"], ["letters"]),
      source({ callbacks: [{ name: "a", http: HTTP, filter: { deadLetters: "Only" } }] }),
    ],
    refused: [
      callbacks(["a", "a"]),
      callbacks(["a", "b"]),
      callbacks(["a", "b"], ["b", "a"]),
      callbacks(["a", "b"], ["b", "c"], ["c"]),
    ],
  },
  {
    rule: "exactly one of `login`, `tokenSecretRef`, `nkeySecretRef` and `credsSecretRef` must be set",
    accepted: [
      nats({ auth: { login: { secretRef: { name: "nats" } } } }),
      nats({ auth: { tokenSecretRef: SECRET_KEY } }),
      nats({ auth: { credsSecretRef: { name: "nats" } } }),
    ],
    refused: [
      nats({ auth: {} }),
      nats({ auth: { tokenSecretRef: SECRET_KEY, nkeySecretRef: { name: "nats" } } }),
    ],
  },
  {
    rule: "exactly one of `configMapRef` and `path` must be set",
    accepted: [module({ path: "shop.ts" }), module({ configMapRef: { name: "shop" } })],
    refused: [module({}), module({ path: "shop.ts", configMapRef: { name: "shop" } })],
  },
  {
    rule: "labels of `pgevents.dev/` and `app.kubernetes.io/` are set by pg-events",
    accepted: [source({ worker: { labels: { team: "shop", "example.com/app.kubernetes.io": "x" } } })],
    refused: [
      source({ worker: { labels: { "pgevents.dev/source": "other" } } }),
      source({ worker: { labels: { "app.kubernetes.io/name": "other" } } }),
    ],
  },
  {
    rule: "must not be negative",
    accepted: [limits({ cpu: 0 }), limits({ cpu: "0.5", memory: 1_000_000_000 })],
    refused: [limits({ cpu: -1 }), source({ worker: { resources: { requests: { memory: -1 } } } })],
  },
];

/** A rule that compares an update with what is stored: only the API server can know. */
export const UPDATE_CASES = [
  {
    rule: "`schemaName` cannot be changed; delete the PgEventSource and create it anew",
    stored: capture({ schemaName: "events" }),
    accepted: [capture({ schemaName: "events", retentionSeconds: 1 })],
    // Leaving the field or its parent out means the default, which is another name.
    refused: [capture({ schemaName: "other" }), capture({}), source()],
  },
];

/** Shapes rather than rules: both sides have to agree, each with words of its own. */
export const SHAPE_CASES: { title: string; manifest: Manifest; accepted: boolean }[] = [
  { title: "the least that works", manifest: source(), accepted: true },
  {
    title: "null counts as absent",
    manifest: source({ suspend: null, capture: null, worker: { replicas: null } }),
    accepted: true,
  },
  {
    title: "null for a required field",
    manifest: source({ database: { secretRef: null } }),
    accepted: false,
  },
  { title: "no callbacks", manifest: source({ callbacks: undefined }), accepted: false },
  { title: "an empty list of callbacks", manifest: source({ callbacks: [] }), accepted: false },
  {
    title: "two callbacks of one name",
    manifest: source({
      callbacks: [
        { name: "a", http: HTTP },
        { name: "a", http: HTTP },
      ],
    }),
    accepted: false,
  },
  {
    title: "one table twice",
    manifest: capture({
      tables: [
        { schema: "s", name: "t" },
        { schema: "s", name: "t" },
      ],
    }),
    accepted: false,
  },
  {
    title: "the same table name in two schemas",
    manifest: capture({
      tables: [
        { schema: "s", name: "t" },
        { schema: "u", name: "t" },
      ],
    }),
    accepted: true,
  },
  { title: "an operation twice", manifest: table({ operations: ["Insert", "Insert"] }), accepted: false },
  { title: "an exclusion twice", manifest: table({ name: "*", exclude: ["a", "a"] }), accepted: false },
  { title: "a NUL in a table's name", manifest: table({ name: "a\u0000b" }), accepted: false },
  {
    title: "a line break in a header",
    manifest: header({ name: "X-A", value: "a\r\nb: c" }),
    accepted: false,
  },
  {
    title: "settings of one's own",
    manifest: capture({ context: { settings: ["app.user", "a.b.c"], traceparent: "otel.trace" } }),
    accepted: true,
  },
  {
    title: "a setting of the server",
    manifest: capture({ context: { settings: ["search_path"] } }),
    accepted: false,
  },
  {
    title: "a setting with a quote",
    manifest: capture({ context: { traceparent: "app.a'b" } }),
    accepted: false,
  },
  {
    title: "a setting twice",
    manifest: capture({ context: { settings: ["app.a", "app.a"] } }),
    accepted: false,
  },
  {
    title: "servers of NATS, by name and by address",
    manifest: nats({ servers: ["nats://a", "tls://a.b:4222", "nats://10.0.0.1:1", "tls://[::1]:4222"] }),
    accepted: true,
  },
  {
    title: "a server of NATS with a password",
    manifest: nats({ servers: ["nats://a:b@c"] }),
    accepted: false,
  },
  { title: "a server of NATS by HTTP", manifest: nats({ servers: ["https://a"] }), accepted: false },
  {
    title: "a subject of NATS with placeholders",
    manifest: nats({ subject: "{schema}.x-{table}_y.{operation}" }),
    accepted: true,
  },
  { title: "a subject of NATS with a wildcard", manifest: nats({ subject: "a.>" }), accepted: false },
  {
    title: "a subject of NATS's own",
    manifest: nats({ subject: "$JS.API.STREAM.DELETE.a" }),
    accepted: false,
  },
  { title: "a subject of NATS with an empty word", manifest: nats({ subject: "a..b" }), accepted: false },
  { title: "an unknown placeholder", manifest: nats({ subject: "a.{column}" }), accepted: false },
  { title: "a stream with a dot", manifest: nats({ stream: "a.b" }), accepted: false },
  {
    title: "Kafka with TLS and a login",
    manifest: kafka({
      brokers: ["a:9092", "[::1]:9092"],
      topic: "a.{schema}.{table}_{operation}-b",
      tls: {},
      sasl: { mechanism: "ScramSha256", secretRef: { name: "k" }, username: "u" },
    }),
    accepted: true,
  },
  { title: "a broker without a port", manifest: kafka({ brokers: ["a"] }), accepted: false },
  { title: "a broker with a scheme", manifest: kafka({ brokers: ["kafka://a:9092"] }), accepted: false },
  { title: "a topic with a slash", manifest: kafka({ topic: "a/b" }), accepted: false },
  { title: "Kafka without a topic", manifest: kafka({ topic: undefined }), accepted: false },
  {
    title: "a filter's expression",
    manifest: callback({ filter: { expression: "row.total > 100" } }),
    accepted: true,
  },
  {
    title: "a filter's expression of 2049 characters",
    manifest: callback({ filter: { expression: `${"true || ".repeat(256)}t` } }),
    accepted: false,
  },
  { title: "a module that is no program", manifest: module({ path: "/app/shop.py" }), accepted: false },
  { title: "a module with a space before it", manifest: module({ path: " /app/shop.js" }), accepted: false },
  { title: "an unknown field", manifest: source({ sinks: [] }), accepted: false },
  { title: "an unknown field of a callback", manifest: callback({ url: "https://a/" }), accepted: false },
  { title: "a number for a string", manifest: uri(7 as unknown as string), accepted: false },
  { title: "a string for a number", manifest: source({ worker: { replicas: "2" } }), accepted: false },
  {
    title: "quantities as text and as number",
    manifest: limits({ cpu: 1, memory: "0.5Gi" }),
    accepted: true,
  },
  { title: "a quantity of no unit", manifest: limits({ memory: "12 GB" }), accepted: false },
  {
    title: "too many labels",
    manifest: source({
      worker: { labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`l${i}`, "x"])) },
    }),
    accepted: false,
  },
];
