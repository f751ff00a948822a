/**
 * Row images that one row of the outbox holds by column (sql/functions_packing.sql): a JSON object of arrays, one
 * array for each column with the values of all rows. Values are passed on as they are written, digit by digit, so
 * this takes texts apart and parses nothing.
 */

const QUOTE = 34;
const COMMA = 44;
const BACKSLASH = 92;
const OPENING = new Set([91, 123]); // [ {
const CLOSING = new Set([93, 125]); // ] }

/**
 * The JSON objects of the rows, in the order of the arrays.
 * @param columns as json_agg writes the arrays, at least one @throws Error when it is something else
 */
export function unpackImages(columns: string): string[] {
  const images: string[] = [];
  let at = 1;
  for (let label = "{"; at < columns.length; at += 1) {
    const nameEnd = afterString(columns, at);
    label += `${columns.slice(at, nameEnd)}:`;
    at = nameEnd + 2; // :[
    for (let row = 0; ; row += 1) {
      const end = afterValue(columns, at);
      images[row] = (images[row] ?? "") + label + columns.slice(at, end).trim();
      at = end + 1;
      if (columns.charCodeAt(end) !== COMMA) break;
    }
    label = ",";
  }
  return images.map((image) => `${image}}`);
}

/** Where a value ends that begins at or after `at`: at the comma or bracket behind it. */
function afterValue(text: string, at: number): number {
  let end = at;
  for (let depth = 0; end < text.length; ) {
    const code = text.charCodeAt(end);
    if (code === QUOTE) {
      end = afterString(text, end);
      continue;
    }
    if (depth === 0 && (code === COMMA || CLOSING.has(code))) return end;
    if (OPENING.has(code)) depth += 1;
    else if (CLOSING.has(code)) depth -= 1;
    end += 1;
  }
  throw new Error("packed row images end in the middle of a value");
}

/** Where the string ends whose opening quote is at `at`: behind its closing quote. */
function afterString(text: string, at: number): number {
  for (let quote = text.indexOf('"', at + 1); quote >= 0; quote = text.indexOf('"', quote + 1)) {
    let slashes = 0;
    while (text.charCodeAt(quote - 1 - slashes) === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return quote + 1;
  }
  throw new Error("packed row images end in the middle of a string");
}
