/** What takes capture away without a trace, as statements by transaction. Pure. */
import { DROP_CAPTURE_ROLE } from "./confinement.ts";
import { dropEventTrigger } from "./event-triggers.ts";
import { type ObservedCatalog, tableText } from "./model.ts";
import type { CaptureNames } from "./names.ts";
import { ident, qualified } from "./quote.ts";

export interface RemovalTransaction {
  /** The table whose triggers go; null: the rest. */
  readonly table: string | null;
  readonly statements: readonly string[];
}

/** Table by table, so that none is locked for long; the schema last, as it takes whatever is left along. */
export function removalTransactions(
  { relations, eventTriggers }: Pick<ObservedCatalog, "relations" | "eventTriggers">,
  names: CaptureNames,
): RemovalTransaction[] {
  const events = eventTriggers.map(({ name }) => dropEventTrigger(name));
  const tables = relations.filter(({ triggers }) => triggers.length > 0);
  return [
    ...(events.length === 0 ? [] : [{ table: null, statements: events }]),
    ...tables.map((relation) => ({
      table: tableText(relation),
      statements: relation.triggers.map(
        ({ name }) => `drop trigger if exists ${ident(name)} on ${qualified(relation.schema, relation.name)}`,
      ),
    })),
    { table: null, statements: [`drop schema ${names.schema} cascade`, DROP_CAPTURE_ROLE] },
  ];
}
