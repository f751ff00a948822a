/**
 * Signatures of requests as Standard Webhooks has them: HMAC-SHA256 over id, time and body, one for each key, so that
 * a key can be replaced while both are known to the receiver.
 */
import { createHmac, createSecretKey, type KeyObject } from "node:crypto";

const PREFIX = "whsec_";
const MIN_BYTES = 24;

/** The key that a text stands for: `whsec_` (or not) and base64 of at least 24 bytes. @returns why it is none */
export function webhookKey(text: string): KeyObject | string {
  const base64 = text.startsWith(PREFIX) ? text.slice(PREFIX.length) : text;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) return "is not whsec_ and base64";
  const bytes = Buffer.from(base64, "base64");
  if (bytes.length < MIN_BYTES) return `holds a key of fewer than ${MIN_BYTES} bytes`;
  return createSecretKey(bytes);
}

/**
 * Names and values of the headers, one after the other.
 * @param id the same at each attempt
 * @param seconds of the clock, at this attempt
 */
export function webhookHeaders(
  keys: readonly KeyObject[],
  id: string,
  seconds: number,
  body: string,
): string[] {
  const text = `${id}.${seconds}.${body}`;
  const signatures = keys.map((key) => `v1,${createHmac("sha256", key).update(text).digest("base64")}`);
  return ["webhook-id", id, "webhook-timestamp", String(seconds), "webhook-signature", signatures.join(" ")];
}
