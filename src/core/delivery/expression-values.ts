/**
 * An event as the variables of a filter expression. Parsed only as far as the expression looks: nothing
 * of an event is read before a variable is asked for. Objects become Maps, so that no name of a column can
 * mean anything to JavaScript; whole numbers become bigints with all their digits.
 */
import type { ChangeEvent } from "../event.ts";

const MIN_INT = -(2n ** 63n);
const MAX_INT = 2n ** 63n - 1n;

export class EventVariables {
  readonly #event: ChangeEvent;
  readonly #known = new Map<string, unknown>();

  constructor(event: ChangeEvent) {
    this.#event = event;
  }

  get operation(): string {
    return this.#event.operation;
  }

  get schema(): string {
    return this.#event.schema;
  }

  get table(): string {
    return this.#event.table;
  }

  get time(): unknown {
    return this.#once("time", () => new Date(this.#event.time));
  }

  get key(): unknown {
    return this.#json("key", this.#event.key);
  }

  get oldKey(): unknown {
    return this.#json("oldKey", this.#event.oldKey);
  }

  get old(): unknown {
    return this.#json("old", this.#event.old);
  }

  get new(): unknown {
    return this.#json("new", this.#event.new);
  }

  get row(): unknown {
    return this.#event.new === null ? this.old : this.new;
  }

  get changed(): unknown {
    return this.#once("changed", () => changedColumns(this.old, this.new));
  }

  get context(): unknown {
    return this.#json("context", this.#event.context);
  }

  #json(name: string, text: string | null): unknown {
    return text === null ? null : this.#once(name, () => parseJson(text));
  }

  #once(name: string, make: () => unknown): unknown {
    let value = this.#known.get(name);
    if (value === undefined) {
      value = make();
      this.#known.set(name, value);
    }
    return value;
  }
}

/** Whole numbers that fit 64 bits as bigints, other numbers as JavaScript's, objects as Maps. */
export function parseJson(text: string): unknown {
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

function revive(_: string, value: unknown, { source }: { readonly source?: string }): unknown {
  if (typeof value === "number")
    return source !== undefined && /^-?\d+$/.test(source) ? whole(source, value) : value;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return new Map(Object.entries(value));
}

function whole(source: string, rounded: number): bigint | number {
  const exact = BigInt(source);
  return exact >= MIN_INT && exact <= MAX_INT ? exact : rounded;
}

/** Names of the columns whose values differ; all of them when there is one image only. */
function changedColumns(before: unknown, after: unknown): string[] {
  if (!(before instanceof Map)) return after instanceof Map ? [...after.keys()] : [];
  if (!(after instanceof Map)) return [...before.keys()];
  const names = new Set<string>([...before.keys(), ...after.keys()]);
  return [...names].filter((name) => !sameValue(before.get(name), after.get(name)));
}

function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => sameValue(item, b[index]));
  if (!(a instanceof Map) || !(b instanceof Map) || a.size !== b.size) return false;
  return [...a].every(([name, value]) => b.has(name) && sameValue(value, b.get(name)));
}
