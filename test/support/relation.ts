import type { ObservedRelation } from "../../src/core/capture/model.ts";

/** An ordinary table of the schema public with the key `id`, as a catalog shows it before any build. */
export function observedRelation(name: string, changes: Partial<ObservedRelation> = {}): ObservedRelation {
  return {
    schema: "public",
    name,
    kind: "r",
    root: null,
    level: "Statement",
    writtenAgain: false,
    unsafeCast: null,
    ofExtension: false,
    columns: ["id"],
    columnsDigest: "",
    settingsMatter: false,
    key: ["id"],
    triggers: [],
    facts: {
      missingRights: [],
      owned: true,
      owner: "shop",
      unlogged: false,
      rowSecurity: false,
      subscribed: false,
    },
    ...changes,
  };
}
