/** API paths. Names go into paths only after a look at their form. */
const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

function part(name: string): string {
  if (!NAME.test(name) || name.includes("..") || name.length > 253)
    throw new RangeError(`not a Kubernetes name: ${JSON.stringify(name)}`);
  return name;
}

/** @param api `api/v1` or `apis/<group>/<version>` @param namespace null: all namespaces */
export function collectionPath(api: string, namespace: string | null, plural: string): string {
  return namespace === null ? `/${api}/${plural}` : `/${api}/namespaces/${part(namespace)}/${plural}`;
}

export function objectPath(
  api: string,
  namespace: string,
  plural: string,
  name: string,
  subresource?: string,
): string {
  const path = `${collectionPath(api, namespace, plural)}/${part(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
