/** Where an HTTP callback sends to, when that is not a plain URL. */
import { z } from "zod";
import { integer, objectName } from "./fields.ts";
import { type Rule, withRules } from "./rule.ts";

const API_VERSION = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?v[a-z0-9]+$/;
const KIND = /^[A-Z][A-Za-z0-9]*$/;

/** A Service, or whatever has an address in `status.address.url`, as Knative's Addressables do. */
export const ref = withRules(
  z.strictObject({
    apiVersion: z
      .string()
      .min(2)
      .max(317)
      .regex(API_VERSION, "must be `v1`, or a group and a version such as `messaging.knative.dev/v1`")
      .default("v1")
      .meta({ description: "API version of the object. Default: v1." }),
    kind: z.string().min(1).max(63).regex(KIND, "must be a kind such as Service").default("Service").meta({
      description:
        "Kind of the object: Service, or one that has an address in `status.address.url`, such as Knative's Broker. Default: Service.",
    }),
    name: objectName("Name of the object."),
    namespace: objectName(
      "Namespace of the object; another one than the PgEventSource's must be allowed by whoever runs the operator. Default: that of the PgEventSource.",
    ).optional(),
    port: integer(
      1,
      65_535,
      "Port of the Service; https is spoken to 443 and to a port with the appProtocol https. Default: 80.",
    ).optional(),
    path: z
      .string()
      .max(1024)
      .regex(/^\/[^\s#]*$/, "must begin with `/`, and hold no white space and no `#`")
      .optional()
      .meta({
        description: "Path and query of the requests. Default: those of the address; / for a Service.",
      }),
  }),
  [
    {
      cel: "!has(self.port) || ((!has(self.kind) || self.kind == 'Service') && (!has(self.apiVersion) || self.apiVersion == 'v1'))",
      message: "`port` is for a Service only; other objects have it in their address",
      holds: (ref) => ref.port === undefined || isService(ref),
    },
  ],
).meta({
  description:
    "Object in the cluster whose address gets the events by POST; or set `uri`. The operator looks it up again and again, and replaces the workers when it changes. Default: none.",
});

export type AddressRef = z.output<typeof ref>;

export function isService({ apiVersion, kind }: { apiVersion: string; kind: string }): boolean {
  return apiVersion === "v1" && kind === "Service";
}

export const uriFrom = z.enum(["SinkBinding"]).meta({
  description:
    "SinkBinding: a Knative SinkBinding on the worker Deployment says where the events go, what is added to them and which authorities to trust; or set `uri`. Default: none.",
});

const ADDRESSES = ["uri", "ref", "uriFrom"] as const;

export const ONE_ADDRESS: Rule<{ [name in (typeof ADDRESSES)[number]]?: unknown }> = {
  cel: `[${ADDRESSES.map((name) => `has(self.${name})`).join(", ")}].filter(x, x).size() == 1`,
  message: "exactly one of `uri`, `ref` and `uriFrom` must be set",
  holds: (http) => ADDRESSES.filter((name) => http[name] !== undefined).length === 1,
};
