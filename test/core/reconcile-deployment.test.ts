import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePgEventSource } from "../../src/core/api/parse.ts";
import type { PgEventSource } from "../../src/core/api/source.ts";
import { matches } from "../../src/core/reconcile/matches.ts";
import { hiddenKeys, secretReferences } from "../../src/core/reconcile/secret-references.ts";
import { workerDeployment } from "../../src/core/reconcile/worker-deployment.ts";

const OPTIONS = {
  image: "pg-events:1",
  imagePullPolicy: "IfNotPresent",
  version: "1.2.3",
  secretsHash: "abc",
};

function source(spec: Record<string, unknown> = {}): PgEventSource {
  return parsePgEventSource(
    {
      apiVersion: "pgevents.dev/v1alpha1",
      kind: "PgEventSource",
      metadata: { name: "shop", namespace: "store", uid: "u-1", generation: 3 },
      spec: {
        database: { secretRef: { name: "shop-db" } },
        callbacks: [{ name: "orders", http: { uri: "https://orders.example.com/" } }],
        ...spec,
      },
    },
    "store/shop",
  );
}

const containerOf = (one: PgEventSource) => {
  const container = workerDeployment(one, OPTIONS).spec.template.spec.containers[0];
  assert.ok(container);
  return container;
};
const environmentOf = (one: PgEventSource) =>
  new Map(containerOf(one).env.map((variable) => [variable.name, "value" in variable ? variable.value : ""]));

test("a worker is told of the proxy where there is one", () => {
  const names = (options: object) =>
    workerDeployment(source(), { ...OPTIONS, ...options })
      .spec.template.spec.containers[0]?.env.filter(({ name }) => name.includes("PROXY"))
      .map((variable) => [variable.name, "value" in variable && variable.value]);
  assert.deepEqual(names({}), []);
  assert.deepEqual(names({ proxy: { httpsProxy: "http://proxy:3128", noProxy: [".svc", "10.0.0.0/8"] } }), [
    ["PG_EVENTS_HTTPS_PROXY", "http://proxy:3128"],
    ["PG_EVENTS_NO_PROXY", ".svc,10.0.0.0/8"],
  ]);
});

describe("the worker Deployment", () => {
  test("is this, as a whole", () => {
    const { env, ...container } = containerOf(source());
    const labels = {
      "app.kubernetes.io/name": "pgevents-worker",
      "pgevents.dev/source": "shop",
      "app.kubernetes.io/instance": "shop",
      "app.kubernetes.io/component": "worker",
      "app.kubernetes.io/part-of": "pgevents",
      "app.kubernetes.io/managed-by": "pgevents-operator",
    };
    const items = ["dbname", "host", "password", "port", "username"].map((key) => ({
      key,
      path: `shop-db/${key}`,
    }));
    assert.deepEqual(workerDeployment(source(), OPTIONS), {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: {
        name: "shop",
        namespace: "store",
        labels: { ...labels, "app.kubernetes.io/version": "1.2.3" },
        ownerReferences: [
          {
            apiVersion: "pgevents.dev/v1alpha1",
            kind: "PgEventSource",
            name: "shop",
            uid: "u-1",
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      },
      spec: {
        replicas: 1,
        selector: {
          matchLabels: { "app.kubernetes.io/name": "pgevents-worker", "pgevents.dev/source": "shop" },
        },
        strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: {
          metadata: { labels, annotations: { "pgevents.dev/secrets-hash": "abc" } },
          spec: {
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            terminationGracePeriodSeconds: 30,
            securityContext: {
              runAsNonRoot: true,
              runAsUser: 65532,
              runAsGroup: 65532,
              fsGroup: 65532,
              seccompProfile: { type: "RuntimeDefault" },
            },
            containers: [{ ...container, env }],
            volumes: [
              {
                name: "secrets",
                projected: {
                  defaultMode: 0o440,
                  sources: [{ secret: { name: "shop-db", optional: true, items } }],
                },
              },
              { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
            ],
          },
        },
      },
    });
    const probe = (path: string, failureThreshold: number) => ({
      httpGet: { path, port: "probes" },
      periodSeconds: 5,
      timeoutSeconds: 3,
      failureThreshold,
    });
    assert.deepEqual(container, {
      name: "worker",
      image: "pg-events:1",
      imagePullPolicy: "IfNotPresent",
      args: ["worker"],
      ports: [
        { name: "metrics", containerPort: 9090, protocol: "TCP" },
        { name: "probes", containerPort: 8081, protocol: "TCP" },
      ],
      startupProbe: probe("/livez", 30),
      livenessProbe: probe("/livez", 3),
      readinessProbe: probe("/readyz", 2),
      resources: { requests: { cpu: "50m", memory: "96Mi" }, limits: { memory: "256Mi" } },
      securityContext: {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      },
      volumeMounts: [
        { name: "secrets", mountPath: "/etc/pg-events/secrets", readOnly: true },
        { name: "tmp", mountPath: "/tmp" },
      ],
    });
    const environment = environmentOf(source());
    assert.equal(environment.get("PG_EVENTS_SECRETS_DIR"), "/etc/pg-events/secrets");
    assert.equal(environment.get("PG_EVENTS_OWNER"), "kubernetes:store/shop/u-1");
    assert.equal(environment.get("PG_EVENTS_DRAIN_SECONDS"), "25");
    assert.equal(environment.get("PG_EVENTS_LOG_LEVEL"), "Info");
  });

  test("gives the worker a source that parses to the same capture and callbacks", () => {
    const one = source({ capture: { tables: [{ schema: "public", name: "orders" }] } });
    const parsed = parsePgEventSource(JSON.parse(environmentOf(one).get("PG_EVENTS_SOURCE") ?? ""), "env");
    assert.deepEqual(parsed.spec.capture, one.spec.capture);
    assert.deepEqual(parsed.spec.callbacks, one.spec.callbacks);
    assert.deepEqual(parsed.spec.database, one.spec.database);
    assert.deepEqual(parsed.metadata, { name: "shop", namespace: "store" });
  });

  test("holds no $ in it, which the kubelet would expand", () => {
    const uri = "https://orders.example.com/$(POD_NAME)?a=$$b";
    const text =
      environmentOf(source({ callbacks: [{ name: "orders", http: { uri } }] })).get("PG_EVENTS_SOURCE") ?? "";
    assert.ok(!text.includes("$"));
    assert.equal(JSON.parse(text).spec.callbacks[0].http.uri, uri);
  });

  test("scaling and suspending change the replicas and nothing else", () => {
    const template = (spec: object) => workerDeployment(source({ ...spec }), OPTIONS).spec.template;
    const plain = template({});
    for (const spec of [{ worker: { replicas: 5 } }, { suspend: true }, { deletionPolicy: "Retain" }]) {
      assert.deepEqual(template(spec), plain);
    }
    assert.equal(workerDeployment(source({ worker: { replicas: 5 } }), OPTIONS).spec.replicas, 5);
    assert.equal(
      workerDeployment(source({ worker: { replicas: 5 }, suspend: true }), OPTIONS).spec.replicas,
      0,
    );
  });

  test("gives modules of ConfigMaps as files, and memory for all modules", () => {
    const module = (name: string, configMap: string, rest: object = {}) => ({
      name,
      module: { configMapRef: { name: configMap, ...rest } },
    });
    const callbacks = [
      module("a", "shop"),
      module("b", "shop", { key: "other.mjs" }),
      module("c", "shop"),
      module("d", "stock"),
      { name: "e", module: { path: "/app/e.mjs", memoryMegabytes: 100 } },
      { name: "f", http: { uri: "https://f.example.com/" } },
    ];
    const one = source({ callbacks });
    const items = (name: string, ...keys: string[]) => keys.map((key) => ({ key, path: `${name}/${key}` }));
    const { volumes } = workerDeployment(one, OPTIONS).spec.template.spec;
    assert.deepEqual(volumes[1], {
      name: "modules",
      projected: {
        defaultMode: 0o440,
        sources: [
          { configMap: { name: "shop", optional: true, items: items("shop", "index.mjs", "other.mjs") } },
          { configMap: { name: "stock", optional: true, items: items("stock", "index.mjs") } },
        ],
      },
    });
    const container = containerOf(one);
    assert.deepEqual(container.volumeMounts[1], {
      name: "modules",
      mountPath: "/etc/pg-events/modules",
      readOnly: true,
    });
    assert.equal(environmentOf(one).get("PG_EVENTS_MODULES_DIR"), "/etc/pg-events/modules");
    assert.equal(container.resources.limits?.memory, `${256 + 4 * 512 + 656}Mi`);
    const onlyPath = source({ callbacks: [{ name: "e", module: { path: "/app/e.mjs" } }] });
    assert.equal(workerDeployment(onlyPath, OPTIONS).spec.template.spec.volumes.length, 2);
    assert.equal(environmentOf(onlyPath).has("PG_EVENTS_MODULES_DIR"), false);
  });

  test("takes over what the user may set, and keeps its own labels", () => {
    const worker = {
      labels: { team: "data" },
      annotations: { note: "x" },
      nodeSelector: { disk: "ssd" },
      tolerations: [{ operator: "Exists" }],
      affinity: { nodeAffinity: {} },
      topologySpreadConstraints: [{ maxSkew: 1 }],
      priorityClassName: "high",
      imagePullSecrets: [{ name: "registry" }],
      terminationGracePeriodSeconds: 3,
      resources: { limits: { memory: "1Gi" } },
      logLevel: "Debug",
    };
    const one = source({ worker });
    const { metadata, spec } = workerDeployment(one, OPTIONS).spec.template;
    assert.partialDeepStrictEqual(metadata.labels, { team: "data", "pgevents.dev/source": "shop" });
    assert.partialDeepStrictEqual(metadata.annotations, { note: "x", "pgevents.dev/secrets-hash": "abc" });
    const { labels: _l, annotations: _a, resources, logLevel, ...scheduling } = worker;
    assert.partialDeepStrictEqual(spec, scheduling);
    assert.deepEqual(containerOf(one).resources, resources);
    assert.equal(environmentOf(one).get("PG_EVENTS_LOG_LEVEL"), logLevel);
    assert.equal(environmentOf(one).get("PG_EVENTS_DRAIN_SECONDS"), "1");
  });
});

describe("secret references", () => {
  test("are every key once; a header's leaves the cluster", () => {
    const token = { name: "token", key: "value" };
    const ca = { name: "shop-db", key: "ca.crt" };
    const spec = source({
      database: {
        secretRef: { name: "shop-db" },
        keys: { uri: "uri" },
        tls: { mode: "VerifyCA", caSecretRef: ca },
      },
      callbacks: [
        { name: "a", http: { uri: "https://a/", headers: [{ name: "Authorization", secretKeyRef: token }] } },
        {
          name: "b",
          http: {
            uri: "https://b/",
            headers: [{ name: "X-Token", secretKeyRef: token }],
            tls: { caSecretRef: ca },
          },
        },
      ],
    }).spec;
    assert.deepEqual(secretReferences(spec), [
      { name: "shop-db", key: "ca.crt", optional: false, leavesCluster: false, hidden: false },
      { name: "shop-db", key: "uri", optional: false, leavesCluster: false, hidden: true },
      { name: "token", key: "value", optional: false, leavesCluster: true, hidden: true },
    ]);
  });

  test("of callbacks: what logs in and signs is for its owner to allow, certificates of authorities are not; names are shown", () => {
    const tls = { caSecretRef: { name: "ca" }, clientCertSecretRef: { name: "id" } };
    const login = { secretRef: { name: "login" } };
    const nats = { servers: ["nats://a"] };
    const kafka = { brokers: ["a:9092"], topic: "t" };
    const callbacks = [
      { name: "login", nats: { ...nats, auth: { login }, tls } },
      { name: "token", nats: { ...nats, auth: { tokenSecretRef: { name: "token", key: "t" } } } },
      { name: "nkey", nats: { ...nats, auth: { nkeySecretRef: { name: "nkey" } } } },
      { name: "creds", nats: { ...nats, auth: { credsSecretRef: { name: "creds" } } } },
      { name: "kafka", kafka: { ...kafka, sasl: { ...login, username: "u", passwordKey: "pw" }, tls } },
      { name: "log", stdout: {} },
      {
        name: "hook",
        http: {
          uri: "https://a/",
          tls,
          signing: {
            secretKeyRef: { name: "signing", key: "k" },
            previousSecretKeyRef: { name: "signing", key: "old" },
          },
        },
      },
    ];
    const marks = secretReferences(source({ callbacks }).spec)
      .filter(({ name }) => name !== "shop-db")
      .map(({ name, key, leavesCluster, hidden, optional }) =>
        [`${name}/${key}`, leavesCluster && "label", hidden && "hidden", optional && "optional"]
          .filter(Boolean)
          .join(" "),
      );
    assert.deepEqual(marks, [
      "ca/ca.crt",
      "creds/user.creds label hidden",
      "id/tls.crt label",
      "id/tls.key label hidden",
      "login/password label hidden",
      "login/pw label hidden",
      "login/username label",
      "nkey/seed label hidden",
      "signing/k label hidden",
      "signing/old label hidden",
      "token/t label hidden",
    ]);
  });

  test("of a source with a module are all in reach of its code", () => {
    const { spec } = source({ callbacks: [{ name: "a", module: { path: "/app/a.mjs" } }] });
    assert.ok(secretReferences(spec).every(({ leavesCluster }) => leavesCluster));
  });

  test("of a connection hide the password only; a key that is also one keeps it hidden", () => {
    const hiddenOf = (keys: object) =>
      secretReferences(source({ database: { secretRef: { name: "shop-db" }, keys } }).spec)
        .filter(({ hidden }) => hidden)
        .map(({ key }) => key);
    assert.deepEqual(hiddenOf({}), ["password"]);
    assert.deepEqual(hiddenOf({ username: "both", password: "both" }), ["both"]);
    const { spec } = source();
    assert.equal(hiddenKeys(spec)("shop-db", "password"), true);
    assert.equal(hiddenKeys(spec)("shop-db", "host"), false);
    assert.equal(hiddenKeys(spec)("other", "host"), true);
  });

  test("the port may be missing, and the password when there is a certificate", () => {
    const optional = (database: object) =>
      secretReferences(source({ database: { secretRef: { name: "shop-db" }, ...database } }).spec)
        .filter((reference) => reference.optional)
        .map(({ key }) => key);
    assert.deepEqual(optional({}), ["port"]);
    assert.deepEqual(optional({ tls: { clientCertSecretRef: { name: "login" } } }), ["password", "port"]);
  });
});

describe("matches", () => {
  const cases: [string, unknown, unknown, boolean][] = [
    ["the same", { a: 1, b: ["x"] }, { a: 1, b: ["x"] }, true],
    ["what we do not speak of", { a: 1 }, { a: 1, b: 2 }, true],
    ["another value", { a: 1 }, { a: 2 }, false],
    ["a missing field", { a: { b: 1 } }, { a: {} }, false],
    [
      "an entry of others",
      { env: [{ name: "a", value: "1" }] },
      { env: [{ name: "b" }, { name: "a", value: "1" }] },
      true,
    ],
    ["a changed entry", { env: [{ name: "a", value: "1" }] }, { env: [{ name: "a", value: "2" }] }, false],
    ["a missing entry", { env: [{ name: "a" }] }, { env: [] }, false],
    ["a longer plain list", { args: ["worker"] }, { args: ["worker", "--x"] }, false],
    ["an empty list", { tolerations: [] }, { tolerations: [{ key: "a" }] }, false],
    ["nothing there", { a: 1 }, undefined, false],
  ];
  for (const [title, wanted, live, expected] of cases) {
    test(title, () => assert.equal(matches(wanted, live), expected));
  }
});
