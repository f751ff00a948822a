/**
 * A validation rule, written once for both worlds: the CEL text that the API server runs and its
 * TypeScript twin that `parse` runs on local manifests. One table of cases in test/ goes through both.
 */
import type { z } from "zod";

export interface Rule<T> {
  /** CEL expression over `self`; must be true for a valid value. */
  cel: string;
  /** What the user reads when it is false; says what to write instead. */
  message: string;
  /** The twin of `cel` on the parsed value. */
  holds: (value: T) => boolean;
}

/** The schema with every rule attached, as a refinement and as `x-kubernetes-validations`. */
export function withRules<S extends z.ZodType>(schema: S, rules: Rule<z.output<S>>[]): S {
  const refined = rules.reduce<z.ZodType>(
    (current, rule) => current.refine((value) => rule.holds(value as z.output<S>), { error: rule.message }),
    schema,
  );
  const validations = rules.map(({ cel, message }) => ({ rule: cel, message }));
  return refined.meta({ ...schema.meta(), "x-kubernetes-validations": validations }) as unknown as S;
}
