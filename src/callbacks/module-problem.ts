/**
 * What is said of what a user's module threw. Messages of errors may hold row data or a secret, and what
 * is said here is stored with dead letters and shown in status: so it is the error's name, its code and
 * the line of the user's file, never the message.
 */
import { basename } from "node:path";

const WORD = /^[\w$.-]{1,60}$/;
const MAX_MESSAGE = 200;

/** `TypeError (ERR_X) at orders.mjs:12:7` */
export function describeThrown(thrown: unknown, files: readonly string[]): string {
  if (typeof thrown !== "object" || thrown === null)
    return `a value that is no error (${thrown === null ? "null" : typeof thrown})`;
  const { name, code, stack } = thrown as { name?: unknown; code?: unknown; stack?: unknown };
  const place = typeof stack === "string" ? placeIn(stack, files) : null;
  return `${isWord(name) ? name : "an object that is no error"}${isWord(code) ? ` (${code})` : ""}${place === null ? "" : ` at ${place}`}`;
}

/**
 * Why a file could not be loaded. The message is shown only where Node.js itself wrote it about the file's
 * text: no line of the file has run then.
 */
export function describeNotLoaded(thrown: unknown, file: string): string {
  const { name, code, message, stack = "" } = (thrown ?? {}) as NodeJS.ErrnoException;
  const ran = placeIn(String(stack), [file]) !== null;
  const ofLoader = name === "SyntaxError" || (isWord(code) && code.startsWith("ERR_"));
  if (ran || !ofLoader) return `it throws ${describeThrown(thrown, [file])}`;
  const line = new RegExp(`${escaped(basename(file))}:(\\d{1,7})$`, "m").exec(String(stack))?.[1];
  // Of an ES module Node.js tells the line only when it prints the error itself.
  const where =
    line !== undefined ? ` (line ${line})` : name === "SyntaxError" ? " (`node --check` shows the line)" : "";
  return `${name}: ${String(message).split("\n")[0]?.slice(0, MAX_MESSAGE)}${where}`;
}

/** The first frame in one of the files; nothing of the text but digits gets through. */
function placeIn(stack: string, files: readonly string[]): string | null {
  const names = files.map((file) => escaped(basename(file))).join("|");
  const frame = new RegExp(`^ +at .*[/\\\\(](${names}):(\\d{1,7}):(\\d{1,7})\\)?$`, "m").exec(stack);
  return frame === null ? null : `${frame[1]}:${frame[2]}:${frame[3]}`;
}

function isWord(text: unknown): text is string {
  return typeof text === "string" && WORD.test(text);
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
