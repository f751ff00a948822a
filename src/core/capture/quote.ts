/** Quoting for SQL text. Every name passes `ident`, every text `literal`; values of queries are parameters. */

const MAX_NAME_BYTES = 63;

/**
 * A name as a quoted SQL identifier.
 * @throws RangeError when it is empty, longer than PostgreSQL's 63 bytes, or holds a NUL
 */
export function ident(name: string): string {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > MAX_NAME_BYTES || name.includes("\0")) {
    throw new RangeError(
      `not a PostgreSQL name (1 to ${MAX_NAME_BYTES} bytes, no NUL): ${JSON.stringify(name)}`,
    );
  }
  return `"${name.replaceAll('"', '""')}"`;
}

/** `schema.name`, both quoted. */
export function qualified(schema: string, name: string): string {
  return `${ident(schema)}.${ident(name)}`;
}

/**
 * A text as an SQL literal that means the same whatever `standard_conforming_strings` says.
 * @throws RangeError when it holds a NUL, which no PostgreSQL text can
 */
export function literal(text: string): string {
  if (text.includes("\0")) throw new RangeError("a PostgreSQL text cannot hold a NUL");
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\\") ? ` E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}
