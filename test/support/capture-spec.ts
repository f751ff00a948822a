import { type CaptureSpec, captureSchema, OPERATIONS, type TableSpec } from "../../src/core/api/capture.ts";

/** `spec.capture` with the defaults for what is not given. */
export function captureSpec(changes: Partial<CaptureSpec> = {}): CaptureSpec {
  return captureSchema.parse(changes);
}

/** An entry of `spec.capture.tables` with every operation, of a table in `public`. */
export function tableSpec(fields: Partial<TableSpec> & Pick<TableSpec, "name">): TableSpec {
  return { schema: "public", operations: [...OPERATIONS], ...fields };
}
