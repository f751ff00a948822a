/**
 * What a Knative SinkBinding puts into the environment of the containers that it binds: K_SINK, where
 * events go; K_CE_OVERRIDES, attributes that are added to them; K_CA_CERTS, authorities to trust.
 */
import type { PgEventSource } from "../api/source.ts";
import { PgEventsError } from "../errors.ts";
import { bindsSink, withAddress } from "../reconcile/addresses.ts";

export interface SinkBinding {
  /** Undefined while nothing is bound. */
  readonly uri: string | undefined;
  /** Names and values of CloudEvents attributes. */
  readonly extensions: readonly (readonly [string, string])[];
  /** PEM. */
  readonly caCerts: string | undefined;
}

export interface BoundSource {
  /** With the address in the place of each `uriFrom`; a callback waits, suspended, while there is none. */
  readonly source: PgEventSource;
  /** The binding of a callback that has one. */
  readonly bindingOf: (callback: string) => SinkBinding | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** CloudEvents 1.0, 3.1.1. */
const ATTRIBUTE_NAME = /^[a-z0-9]{1,20}$/;
/** Set from the event; another value would break what receivers rely on. */
const OURS = [
  "specversion",
  "id",
  "source",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "data",
  "partitionkey",
  "sequence",
];

/** @throws PgEventsError PGE_SINK_BINDING_INVALID when a callback is bound and the environment cannot be used */
export function bindSink(source: PgEventSource, environment: Environment): BoundSource {
  const bound = new Set(source.spec.callbacks.filter(bindsSink).map(({ name }) => name));
  if (bound.size === 0) return { source, bindingOf: () => undefined };
  const binding = readSinkBinding(environment);
  const callbacks = source.spec.callbacks.map((callback) =>
    bound.has(callback.name) ? withAddress(callback, binding.uri) : callback,
  );
  return {
    source: { ...source, spec: { ...source.spec, callbacks } },
    bindingOf: (callback) => (bound.has(callback) ? binding : undefined),
  };
}

function readSinkBinding({ K_SINK, K_CE_OVERRIDES, K_CA_CERTS }: Environment): SinkBinding {
  const uri = K_SINK || undefined;
  if (uri !== undefined && !(URL.canParse(uri) && /^https?:$/.test(new URL(uri).protocol)))
    throw invalid("K_SINK is not an http or https URL");
  return { uri, extensions: readExtensions(K_CE_OVERRIDES), caCerts: K_CA_CERTS || undefined };
}

function readExtensions(text: string | undefined): [string, string][] {
  if (!text) return [];
  let extensions: unknown;
  try {
    extensions = (JSON.parse(text) as { extensions?: unknown } | null)?.extensions ?? {};
  } catch {
    throw invalid("K_CE_OVERRIDES is not JSON");
  }
  return Object.entries(extensions as Record<string, unknown>).map(([name, value]) => {
    if (!ATTRIBUTE_NAME.test(name))
      throw invalid(`K_CE_OVERRIDES has ${JSON.stringify(name)}, which is no name of an attribute`);
    if (OURS.includes(name)) throw invalid(`K_CE_OVERRIDES has ${name}, which is set from the event`);
    if (typeof value !== "string")
      throw invalid(`K_CE_OVERRIDES has a value of ${name} that is not a string`);
    return [name, value];
  });
}

function invalid(problem: string): PgEventsError {
  return new PgEventsError("PGE_SINK_BINDING_INVALID", `${problem}.`, {
    remedy: "Correct the SinkBinding that is bound to this Deployment.",
  });
}
