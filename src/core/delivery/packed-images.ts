/**
 * Row images that one row of the outbox holds by column (sql/functions_packing.sql): JSON arrays, the first of the
 * columns' names, then one for each column with the values of all rows. Values are passed on as they are written,
 * digit by digit.
 */
import { COMMA, endOfValue, skipSpace } from "./json-text.ts";

interface Column {
  /** Its name with all that goes before a value of it in a row. */
  readonly label: string;
  /** Where its values begin and end, by turns. */
  readonly places: readonly number[];
}

/**
 * The JSON objects of the rows, in the order of the arrays.
 * @param columns the arrays as json_agg writes them, with a comma between; none empty, all but the first of one length
 */
export function unpackImages(columns: string): string[] {
  const found = columnsIn(columns);
  const images: string[] = [];
  // Joined, because a string put together by + is a tree of its parts, whose many objects are what takes time.
  const parts = new Array<string>(2 * found.length + 1).fill("}");
  for (let row = 0; row < (found[0]?.places.length ?? 0); row += 2) {
    for (const [index, { label, places }] of found.entries()) {
      parts[2 * index] = label;
      parts[2 * index + 1] = columns.slice(places[row], places[row + 1]);
    }
    images.push(parts.join(""));
  }
  return images;
}

function columnsIn(text: string): Column[] {
  const [names = [], ...values] = arraysIn(text);
  return values.map((places, index) => ({
    label: `${index === 0 ? "{" : ","}${text.slice(names[2 * index], names[2 * index + 1])}:`,
    places,
  }));
}

/** Of each array where its values begin and end, by turns. */
function arraysIn(text: string): number[][] {
  const found: number[][] = [];
  for (let at = 0; at < text.length; at += 2) {
    const places: number[] = [];
    do {
      const from = skipSpace(text, at + 1);
      const to = endOfValue(text, from);
      places.push(from, to);
      at = skipSpace(text, to);
    } while (text.charCodeAt(at) === COMMA);
    found.push(places);
  }
  return found;
}
