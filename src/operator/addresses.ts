/** Looks up what callbacks refer to: Services, and objects with an address in their status. */
import type { Reason } from "../core/api/conditions.ts";
import { type AddressRef, isService } from "../core/api/http-address.ts";
import type { PgEventSource } from "../core/api/source.ts";
import { bindsSink, type ObservedAddresses, referredAddresses } from "../core/reconcile/addresses.ts";
import type { Observed, Problem } from "../core/reconcile/observed.ts";
import { isNotFound, KubernetesApiError } from "../kubernetes/api-error.ts";
import { objectPath } from "../kubernetes/paths.ts";
import type { World } from "./world.ts";

interface Service {
  readonly spec?: { readonly ports?: readonly { readonly port: number; readonly appProtocol?: string }[] };
}

interface Addressable {
  readonly status?: { readonly address?: { readonly url?: string } };
}

/** @param deployment the workers', where a SinkBinding puts its address */
export async function resolveAddresses(
  world: World,
  source: PgEventSource,
  deployment: Observed["deployment"],
  signal: AbortSignal,
): Promise<ObservedAddresses> {
  const found = new Map<string, string>();
  let problem: Problem | null = null;
  const { namespace = "" } = source.metadata;
  for (const { name, ref } of referredAddresses(source.spec)) {
    const address = await resolve(world, ref, namespace, signal);
    if (typeof address === "string") found.set(name, address);
    else problem ??= { ...address, message: `Callback ${name}: ${address.message}` };
  }
  const sink = sinkOf(deployment);
  for (const { name } of source.spec.callbacks.filter(bindsSink)) {
    if (sink !== null) found.set(name, sink);
    else
      problem ??= notFound(
        `Callback ${name}: no SinkBinding has set K_SINK on Deployment ${source.metadata.name} yet.`,
      );
  }
  return { found, problem };
}

async function resolve(
  world: World,
  ref: AddressRef,
  home: string,
  signal: AbortSignal,
): Promise<string | Problem> {
  const { kind, name, namespace = home } = ref;
  const what = `${kind} ${name} in namespace ${namespace}`;
  if (namespace !== home && !world.options.callbackNamespaces.includes(namespace)) {
    const message = `namespace ${namespace} is not among those that callbacks of others may refer to (--callback-namespaces).`;
    return forbidden(message);
  }
  try {
    if (isService(ref)) {
      const path = objectPath("api/v1", namespace, "services", name);
      return serviceAddress(ref, namespace, await world.client.get<Service>(path, { signal }));
    }
    const plural = await world.plurals.of(ref.apiVersion, kind, signal);
    if (plural === null) return notFound(`the API server knows no ${kind} of ${ref.apiVersion}.`);
    const path = objectPath(`apis/${ref.apiVersion}`, namespace, plural, name);
    return statusAddress(ref, what, await world.client.get<Addressable>(path, { signal }));
  } catch (error) {
    if (isNotFound(error)) return notFound(`${what} does not exist.`);
    if (!(error instanceof KubernetesApiError) || error.status !== 403) throw error;
    return forbidden(`the operator may not get ${what}; docs/operations.md says how to allow it.`);
  }
}

function serviceAddress(
  { name, port = 80, path = "/" }: AddressRef,
  namespace: string,
  { spec }: Service,
): string | Problem {
  const ports = spec?.ports ?? [];
  const known = ports.find((one) => one.port === port);
  if (known === undefined) {
    const others = ports.map((one) => one.port).join(", ");
    return notFound(
      `Service ${name} in namespace ${namespace} has no port ${port}${others === "" ? "" : `, but ${others}`}.`,
    );
  }
  const scheme = port === 443 || known.appProtocol?.toLowerCase() === "https" ? "https" : "http";
  return new URL(path, `${scheme}://${name}.${namespace}.svc:${port}/`).href;
}

function statusAddress({ path }: AddressRef, what: string, { status }: Addressable): string | Problem {
  const url = status?.address?.url;
  if (typeof url !== "string" || url === "") return notFound(`${what} has no address in its status yet.`);
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    return notFound(`the address of ${what} is no http or https URL.`);
  return path === undefined ? new URL(url).href : new URL(path, url).href;
}

/** The address that a SinkBinding has put into the environment of the workers. */
function sinkOf(deployment: Observed["deployment"]): string | null {
  const { spec } = (deployment ?? {}) as {
    spec?: {
      template?: { spec?: { containers?: { name: string; env?: { name: string; value?: string }[] }[] } };
    };
  };
  const worker = spec?.template?.spec?.containers?.find(({ name }) => name === "worker");
  return worker?.env?.find(({ name }) => name === "K_SINK")?.value || null;
}

const problemFor =
  (reason: Reason) =>
  (message: string): Problem => ({ ok: false, reason, message });
const notFound = problemFor("CallbackNotFound");
const forbidden = problemFor("CallbackForbidden");
