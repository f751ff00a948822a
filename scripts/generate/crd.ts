import { API_GROUP, KIND, METADATA_RULES, PLURAL, specSchema } from "../../src/core/api/source.ts";
import { statusSchema } from "../../src/core/api/status.ts";
import { type JsonSchema, structuralSchema } from "./structural.ts";

const READY = '.status.conditions[?(@.type=="Ready")]';

const PRINTER_COLUMNS = [
  { name: "Ready", type: "string", jsonPath: `${READY}.status` },
  { name: "Reason", type: "string", jsonPath: `${READY}.reason` },
  { name: "Tables", type: "integer", jsonPath: ".status.build.tables" },
  { name: "Workers", type: "integer", jsonPath: ".status.worker.readyReplicas" },
  { name: "Pending", type: "integer", jsonPath: ".status.delivery.pendingEvents", priority: 1 },
  { name: "Oldest", type: "date", jsonPath: ".status.delivery.oldestPendingTime", priority: 1 },
  { name: "Message", type: "string", jsonPath: `${READY}.message`, priority: 1 },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
];

/** The CustomResourceDefinition, ready to be written as YAML. */
export function pgEventSourceCrd() {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${PLURAL}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      scope: "Namespaced",
      names: {
        kind: KIND,
        listKind: `${KIND}List`,
        plural: PLURAL,
        singular: KIND.toLowerCase(),
        shortNames: ["pges"],
        categories: ["pgevents"],
      },
      versions: [
        {
          name: "v1alpha1",
          served: true,
          storage: true,
          subresources: {
            status: {},
            scale: {
              specReplicasPath: ".spec.worker.replicas",
              statusReplicasPath: ".status.worker.replicas",
              labelSelectorPath: ".status.worker.selector",
            },
          },
          selectableFields: [{ jsonPath: ".spec.database.secretRef.name" }],
          additionalPrinterColumns: PRINTER_COLUMNS,
          schema: { openAPIV3Schema: rootSchema() },
        },
      ],
    },
  };
}

function rootSchema(): JsonSchema {
  return {
    description: "Captures changes of a PostgreSQL database and delivers them as CloudEvents.",
    type: "object",
    required: ["spec"],
    "x-kubernetes-validations": METADATA_RULES.map(({ cel, message }) => ({ rule: cel, message })),
    properties: {
      apiVersion: { type: "string", description: "Version of this schema." },
      kind: { type: "string", description: "Always PgEventSource." },
      metadata: { type: "object" },
      spec: withRequiredDatabase(structuralSchema(specSchema)),
      status: structuralSchema(statusSchema),
    },
  };
}

/** A local manifest may get its database from an option of the command; in the cluster there is no command. */
function withRequiredDatabase(spec: JsonSchema): JsonSchema {
  return { ...spec, required: ["database", ...(spec.required as string[])] };
}
