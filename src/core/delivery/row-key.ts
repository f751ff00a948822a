/**
 * The key of a row from its image, taken as it stands: the text PostgreSQL wrote is not parsed, so digits stay,
 * and what JSON readers refuse (an escaped NUL, say) does not matter. Writers do not pay for the key this way.
 */

/**
 * @param columns names as JSON strings (`JSON.stringify`), in key order
 * @param image JSON object text without repeated names, as row_to_json writes it
 * @returns the values as JSON array text; null without columns, or when one is not there
 */
export function rowKey(columns: readonly string[], image: string): string | null {
  if (columns.length === 0) return null;
  const values = new Array<string>(columns.length);
  let found = 0;
  let at = skipSpace(image, 1);
  while (image.charCodeAt(at) === QUOTE) {
    const nameEnd = endOfString(image, at);
    const from = skipSpace(image, skipSpace(image, nameEnd) + 1);
    const to = endOfValue(image, from);
    const index = indexOfName(columns, image, at, nameEnd);
    if (index !== -1) {
      values[index] = image.slice(from, to);
      found += 1;
      if (found === columns.length) return `[${values.join(",")}]`;
    }
    at = skipSpace(image, skipSpace(image, to) + 1);
  }
  return null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

function indexOfName(columns: readonly string[], image: string, from: number, to: number): number {
  for (let index = 0; index < columns.length; index += 1) {
    const column = columns[index] as string;
    if (column.length === to - from && image.startsWith(column, from)) return index;
  }
  return -1;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text.charCodeAt(at) <= SPACE) at += 1;
  return at;
}

/** @returns the position after the closing quote */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; ; at += 1) {
    const end = text.indexOf('"', at);
    if (end === -1) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
    at = end;
  }
}

/** @returns the position after the value */
function endOfValue(text: string, from: number): number {
  const first = text.charCodeAt(from);
  if (first === QUOTE) return endOfString(text, from);
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return endOfNested(text, from);
  let at = from;
  for (; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === COMMA || code === CLOSE_BRACE || code <= SPACE) break;
  }
  return at;
}

function endOfNested(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at);
      continue;
    }
    if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
    if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
    at += 1;
    if (depth === 0) return at;
  }
  return text.length;
}
