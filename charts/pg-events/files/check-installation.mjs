// Run by `helm test`: the API server knows the kind and validates it, and the operator is ready.
import { readFile } from "node:fs/promises";

const { API_SERVER, OPERATOR_PROBES, POD_NAMESPACE, TOKEN_FILE } = process.env;
const manifest = {
  apiVersion: "pgevents.dev/v1alpha1",
  kind: "PgEventSource",
  metadata: { name: "helm-test", namespace: POD_NAMESPACE },
  spec: {
    database: { secretRef: { name: "none" } },
    callbacks: [{ name: "none", http: { uri: "https://callback.invalid/" } }],
  },
};

const authorization = `Bearer ${(await readFile(TOKEN_FILE, "utf8")).trim()}`;
const url = `${API_SERVER}/apis/pgevents.dev/v1alpha1/namespaces/${POD_NAMESPACE}/pgeventsources?dryRun=All`;

async function dryRun(body) {
  const headers = { authorization, "content-type": "application/json" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, text: await response.text() };
}

function expect(what, actual, wanted, detail) {
  if (actual !== wanted) throw new Error(`${what}: expected ${wanted}, got ${actual}. ${detail}`);
  console.log(`ok: ${what}`);
}

const accepted = await dryRun(manifest);
expect("a valid PgEventSource is accepted", accepted.status, 201, accepted.text);
const refused = await dryRun({ ...manifest, spec: { ...manifest.spec, callbacks: [] } });
expect("a PgEventSource without callbacks is refused", refused.status, 422, refused.text);
const ready = await fetch(`${OPERATOR_PROBES}/readyz`);
expect("the operator is ready", ready.status, 200, await ready.text());
