/** The key of a row from its image, taken as it stands. Writers do not pay for the key this way. */
import { endOfString, endOfValue, QUOTE, skipSpace } from "./json-text.ts";

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

function indexOfName(columns: readonly string[], image: string, from: number, to: number): number {
  for (let index = 0; index < columns.length; index += 1) {
    const column = columns[index] as string;
    if (column.length === to - from && image.startsWith(column, from)) return index;
  }
  return -1;
}
