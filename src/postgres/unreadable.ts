/**
 * Texts that cannot be read: we speak UTF-8, and some encodings of databases hold characters that Unicode lacks
 * (byte 0x81 in WIN1252), SQL_ASCII any bytes at all. The server refuses a whole answer for one such text, so
 * what it refused is asked for again, each text with a stand-in where it needs one.
 */

/** SQLSTATEs: a character without an equivalent, bytes that are no character. */
const REFUSED = ["22P05", "22021"];
/** What `readable` of sql/functions_reading.sql puts before a stand-in. */
const MARK = "\u001e";

/** How a query says things. */
export interface Wording {
  /** An expression for what can be read of a text. */
  readonly text: (expression: string) => string;
  /** Expressions for the keys of a row of the outbox; from images with stand-ins none can be taken later. */
  readonly key: string;
  readonly oldKey: string;
  /** The name of the prepared statement. */
  readonly name: (plain: string) => string;
}

const PLAIN: Wording = {
  text: (expression) => expression,
  key: "key",
  oldKey: "old_key",
  name: (plain) => plain,
};

/**
 * Runs a query, a second time when texts of its answer cannot be read. @throws the driver's error for anything else
 * @param schema of capture, quoted
 */
export async function readably<T>(schema: string, query: (wording: Wording) => Promise<T>): Promise<T> {
  try {
    return await query(PLAIN);
  } catch (error) {
    if (!REFUSED.includes((error as { code?: string }).code ?? "")) throw error;
    const keyOf = (image: string) => `${schema}.event_key(about, ${image})`;
    return query({
      text: (expression) => `${schema}.readable(${expression})`,
      key: `coalesce(key, ${keyOf("coalesce(new, old)")})`,
      oldKey: `coalesce(old_key, case operation when 'U' then nullif(${keyOf("old")}, ${keyOf("new")}) end)`,
      name: (plain) => `${plain}_readable`,
    });
  }
}

/** Whether a text is a stand-in: in ASCII, with ? for every other character. */
export function isStandIn(text: string): boolean {
  return text.startsWith(MARK);
}

/** Whether some of the texts in one, none of which can hold the mark, are stand-ins. */
export function holdsStandIns(texts: string): boolean {
  return texts.includes(MARK);
}

/** A text without the mark that it may have. */
export function bare(text: string): string {
  return isStandIn(text) ? text.slice(1) : text;
}
