/**
 * Whether a live object has everything that we want of it. What we do not speak of (defaults, fields
 * and list entries of others) does not count, so that an unchanged object costs no request.
 */
export function matches(wanted: unknown, live: unknown): boolean {
  if (Array.isArray(wanted)) return Array.isArray(live) && listMatches(wanted, live);
  if (typeof wanted !== "object" || wanted === null) return wanted === undefined || wanted === live;
  if (typeof live !== "object" || live === null) return false;
  return Object.entries(wanted).every(([name, value]) =>
    matches(value, (live as Record<string, unknown>)[name]),
  );
}

/** Lists of named things are merged by name, or by the field that takes its place; others are compared as a whole. */
function listMatches(wanted: readonly unknown[], live: readonly unknown[]): boolean {
  const key = ["name", "uid", "containerPort", "mountPath", "key"].find(
    (name) => wanted.length > 0 && wanted.every((item) => has(item, name)),
  );
  if (key === undefined)
    return wanted.length === live.length && wanted.every((item, index) => matches(item, live[index]));
  return wanted.every((item) =>
    live.some((other) => has(other, key) && value(other, key) === value(item, key) && matches(item, other)),
  );
}

function has(item: unknown, name: string): boolean {
  return typeof item === "object" && item !== null && name in item;
}

function value(item: unknown, name: string): unknown {
  return (item as Record<string, unknown>)[name];
}
