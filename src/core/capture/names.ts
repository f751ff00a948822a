/** Names inside the database that follow from the capture schema's name. */
import { createHash } from "node:crypto";
import { ident } from "./quote.ts";

const DEFAULT_SCHEMA = "pgevents";

export interface CaptureNames {
  /** Schema name as it is. */
  readonly schemaName: string;
  /** Schema name as a quoted identifier. */
  readonly schema: string;
  /** End of the names of triggers; empty for the default schema. */
  readonly mark: string;
  /** NOTIFY channel that wakes the worker. */
  readonly channel: string;
  /** Advisory lock, two integers: held exclusively by a sleeping worker, shared by writers. */
  readonly wakeLock: readonly [number, number];
  /** Advisory lock, two integers: one build at a time. */
  readonly buildLock: readonly [number, number];
}

export function captureNames(schemaName: string): CaptureNames {
  const digest = createHash("sha256").update(`pgevents:${schemaName}`).digest();
  const lockClass = digest.readInt32BE(0);
  const hex = digest.toString("hex", 0, 8);
  return {
    schemaName,
    schema: ident(schemaName),
    mark: schemaName === DEFAULT_SCHEMA ? "" : `_${hex.slice(-8)}`,
    channel: `pgevents_${hex}`,
    wakeLock: [lockClass, 1],
    buildLock: [lockClass, 2],
  };
}
