/**
 * The compiled filter expressions of this process. The engine (expression-engine.ts) takes 8 MB, so it is loaded
 * only when a source has an expression; whoever reads a source prepares those of it.
 */
import type { ChangeEvent } from "../event.ts";

/** @throws Error when the expression cannot say: a column that is not there, a comparison with null */
export type EventCondition = (event: ChangeEvent) => boolean;

export interface PreparedExpression {
  readonly holds: EventCondition;
  /** Why `holds` threw, and where; without anything of the row. */
  readonly problemOf: (error: unknown) => string;
}

/** Texts that are remembered; the operator sees those of many sources. */
const MAX_PREPARED = 1000;
const prepared = new Map<string, PreparedExpression>();

/** @returns why the expression cannot be used, and where; null when it can, and `preparedExpression` has it */
export async function prepareExpression(text: string): Promise<string | null> {
  if (prepared.has(text)) return null;
  const { compileExpression, ExpressionError, evaluationProblem } = await import("./expression-engine.ts");
  try {
    const holds = compileExpression(text);
    if (prepared.size >= MAX_PREPARED) prepared.clear();
    prepared.set(text, { holds, problemOf: (error) => evaluationProblem(text, error) });
    return null;
  } catch (error) {
    if (error instanceof ExpressionError) return error.message;
    throw error;
  }
}

/** @throws Error when it was not prepared */
export function preparedExpression(text: string): PreparedExpression {
  const found = prepared.get(text);
  if (found === undefined) throw new Error("an expression was not prepared when its source was read");
  return found;
}
