/** Names inside the database that follow from the capture schema's name. */
import { createHash } from "node:crypto";
import { ident, literal } from "./quote.ts";

export interface CaptureNames {
  /** Schema name as it is. */
  readonly schemaName: string;
  /** Schema name as a quoted identifier. */
  readonly schema: string;
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
  return {
    schemaName,
    schema: ident(schemaName),
    channel: `pgevents_${digest.toString("hex", 0, 8)}`,
    wakeLock: [lockClass, 1],
    buildLock: [lockClass, 2],
  };
}

/** Fills the placeholders of a file of sql/. */
export function fillPlaceholders(template: string, names: CaptureNames): string {
  return template
    .replaceAll("@schema@", () => names.schema)
    .replaceAll("@channel@", () => literal(names.channel))
    .replaceAll("@lock@", () => names.wakeLock.join(", "));
}
