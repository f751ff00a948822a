import { type CaptureSpec, captureSchema } from "../../src/core/api/capture.ts";

/** `spec.capture` with the defaults for what is not given. */
export function captureSpec(changes: Partial<CaptureSpec> = {}): CaptureSpec {
  return captureSchema.parse(changes);
}
