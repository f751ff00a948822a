/**
 * What `row_to_json` writes for each type of PostgreSQL, free of any language. The order in which it looks is
 * the server's: the type under a domain, numbers and the like, arrays, composites, a cast to json of a type
 * that is not PostgreSQL's own, and for all others text.
 *
 * Nullable is everything but a column with NOT NULL of its own: a domain's NOT NULL can be got round
 * (`insert … values ((select …))`), and elements of arrays and fields of composites have none.
 */
import type { ObservedColumn, ObservedType } from "./model.ts";

export type Shape =
  | { readonly kind: "boolean" | "text" | "any" | "null" }
  /** What stands for a value that is masked. */
  | { readonly kind: "mask" }
  /** Null: eight bytes, more than a JavaScript number holds. */
  | { readonly kind: "integer"; readonly range: readonly [number, number] | null }
  /** Beside numbers these words. */
  | { readonly kind: "number"; readonly words: readonly string[] }
  /** Any number of dimensions. */
  | { readonly kind: "array"; readonly element: Shape }
  /** An object of texts and nulls. */
  | { readonly kind: "texts" }
  | { readonly kind: "named"; readonly name: string };

export interface Field {
  readonly name: string;
  readonly shape: Shape;
  readonly nullable: boolean;
  readonly typeText: string;
  readonly comment: string | null;
}

/** An enum or a composite type, which shapes refer to by name. */
export type NamedShape = { readonly name: string; readonly title: string } & (
  | { readonly kind: "enum"; readonly labels: readonly string[] }
  | { readonly kind: "object"; readonly fields: readonly Field[] }
);

export const MASK = "***";
const NAN = "NaN";
const FLOAT_WORDS = [NAN, "Infinity", "-Infinity"] as const;

/** By id in pg_type, which is the same on every server. All others of PostgreSQL's own are text. */
const BUILT_IN: Readonly<Record<string, Shape>> = {
  16: { kind: "boolean" },
  20: { kind: "integer", range: null },
  21: { kind: "integer", range: [-32_768, 32_767] },
  23: { kind: "integer", range: [-2_147_483_648, 2_147_483_647] },
  114: { kind: "any" }, // json
  700: { kind: "number", words: FLOAT_WORDS },
  701: { kind: "number", words: FLOAT_WORDS },
  3802: { kind: "any" }, // jsonb
};
const NUMERIC = "1700";

export interface Shapes {
  of(column: Pick<ObservedColumn, "type" | "typmod">): Shape;
  /** Those that shapes given so far refer to. */
  named(): readonly NamedShape[];
}

/** @param nameOf a name of its own for each type */
export function shapesOf(types: readonly ObservedType[], nameOf: (type: ObservedType) => string): Shapes {
  const byId = new Map(types.map((type) => [type.id, type]));
  const named = new Map<string, NamedShape>();

  function of({ type: id, typmod }: Pick<ObservedColumn, "type" | "typmod">): Shape {
    const type = byId.get(id);
    if (type === undefined) return { kind: "any" }; // it went while the catalog was read
    if (type.base !== null) return of(type.base);
    if (id === NUMERIC) return { kind: "number", words: typmod < 0 ? FLOAT_WORDS : [NAN] };
    const builtIn = BUILT_IN[id];
    if (builtIn !== undefined) return builtIn;
    if (type.element !== null) return { kind: "array", element: of({ type: type.element, typmod }) };
    if (type.attributes !== null) return composite(type, type.attributes);
    if (type.castToJson) return { kind: type.extension === "hstore" ? "texts" : "any" };
    if (type.labels !== null) return enumeration(type, type.labels);
    return { kind: "text" };
  }

  function composite(type: ObservedType, attributes: readonly ObservedColumn[]): Shape {
    const known = named.get(type.id);
    if (known !== undefined) return { kind: "named", name: known.name };
    const name = nameOf(type);
    const fields = attributes.map((attribute) => ({
      name: attribute.name,
      shape: of(attribute),
      nullable: true,
      typeText: attribute.typeText,
      comment: null,
    }));
    named.set(type.id, { kind: "object", name, title: titleOf(type), fields });
    return { kind: "named", name };
  }

  function enumeration(type: ObservedType, labels: readonly string[]): Shape {
    const name = named.get(type.id)?.name ?? nameOf(type);
    named.set(type.id, { kind: "enum", name, title: titleOf(type), labels });
    return { kind: "named", name };
  }

  return { of, named: () => [...named.values()] };
}

function titleOf({ schema, name }: ObservedType): string {
  return `${schema}.${name}`;
}
