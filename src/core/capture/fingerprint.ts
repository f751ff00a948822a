import { createHash } from "node:crypto";
import type { CaptureSpec } from "../api/capture.ts";

/** Fingerprint of what a build makes: 16 hex digits. Settings that only the worker reads do not count. */
export function captureFingerprint(capture: CaptureSpec, callbacks: readonly string[]): string {
  const { schemaName, tables = null, schemaChanges, context, onError, replicated } = capture;
  return digest(
    JSON.stringify({
      schemaName,
      tables,
      schemaChanges,
      context,
      onError,
      replicated,
      callbacks: [...callbacks].sort(),
    }),
  );
}

/** Fingerprint of a text: 16 hex digits. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

/** Digest of a text that functions in the database make, too: `left(md5(convert_to(text, 'UTF8')), 12)`. */
export function shortDigest(text: string): string {
  return createHash("md5").update(text).digest("hex").slice(0, 12);
}
