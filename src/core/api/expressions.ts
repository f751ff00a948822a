import { prepareExpression } from "../delivery/expression.ts";
import { invalidManifest } from "./parse.ts";
import type { PgEventSource } from "./source.ts";

/**
 * Compiles the expressions of a source's filters, which `parsePgEventSource` leaves alone; to be called after it.
 * @param where what the input is, for the message
 * @throws PgEventsError PGE_MANIFEST_INVALID that lists what cannot be compiled, with path and place
 */
export async function prepareExpressions({ spec }: PgEventSource, where: string): Promise<void> {
  const findings: string[] = [];
  for (const [index, { filter }] of spec.callbacks.entries()) {
    if (filter?.expression === undefined) continue;
    const problem = await prepareExpression(filter.expression);
    if (problem !== null) findings.push(`spec.callbacks[${index}].filter.expression: ${problem}`);
  }
  if (findings.length > 0) throw invalidManifest(where, findings);
}
