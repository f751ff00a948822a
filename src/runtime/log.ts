/**
 * JSON lines on standard error. Messages are constant; what varies is in keys. Secret values that were
 * read are registered with `hideSecret` and masked wherever they would appear, error texts included.
 */
import pino from "pino";

export type Logger = pino.Logger;
export const LOG_LEVELS = ["Error", "Warn", "Info", "Debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const MASK = "[hidden]";
/** Shorter values would mask parts of ordinary words. */
const SHORTEST_SECRET = 4;
/** The longest first: a secret may be a part of another one. */
let secrets: readonly string[] = [];

/** Masks this text in every log line from now on. */
export function hideSecret(text: string): void {
  const escaped = JSON.stringify(text).slice(1, -1);
  if (text.length < SHORTEST_SECRET || secrets.includes(escaped)) return;
  secrets = [...secrets, escaped].sort((a, b) => b.length - a.length);
}

/** The text with every registered secret masked. */
export function maskSecrets(text: string): string {
  let masked = text;
  for (const secret of secrets) masked = masked.replaceAll(secret, MASK);
  return masked;
}

export function createLogger(level: LogLevel, bindings: Record<string, unknown> = {}): Logger {
  return pino(
    {
      level: level.toLowerCase(),
      base: bindings,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      hooks: { streamWrite: maskSecrets },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}
