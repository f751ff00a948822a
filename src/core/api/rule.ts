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

/** A rule over `self` and `oldSelf`: only the API server runs it, as a local manifest has no past. */
export interface TransitionRule {
  cel: string;
  message: string;
}

/** The schema with every rule attached, as a refinement and as `x-kubernetes-validations`. */
export function withRules<S extends z.ZodType>(schema: S, rules: Rule<z.output<S>>[]): S {
  const refined = rules.reduce<z.ZodType>(
    (current, rule) => current.refine((value) => rule.holds(value as z.output<S>), { error: rule.message }),
    schema,
  );
  return withValidations(refined, schema.meta(), rules) as unknown as S;
}

/** The schema with rules that compare an update with what is stored. */
export function withTransitionRules<S extends z.ZodType>(schema: S, rules: TransitionRule[]): S {
  return withValidations(schema, schema.meta(), rules);
}

const VALIDATIONS = "x-kubernetes-validations";

function withValidations<S extends z.ZodType>(
  schema: S,
  meta: Record<string, unknown> | undefined,
  rules: TransitionRule[],
): S {
  const existing = (meta?.[VALIDATIONS] ?? []) as { rule: string; message: string }[];
  const added = rules.map(({ cel, message }) => ({ rule: cel, message }));
  return schema.meta({ ...meta, [VALIDATIONS]: [...existing, ...added] }) as S;
}
