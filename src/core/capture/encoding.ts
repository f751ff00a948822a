/** Whether events of a database can be told in UTF-8, whatever its texts hold. Pure. */
import { type Finding, finding } from "./findings.ts";

/** Encodings of which every character is one of Unicode, and PostgreSQL knows which. */
const WHOLE = /^(UTF8|LATIN(1|2|4|5|6|7|8|9|10)|ISO_8859_5|KOI8[RU]|WIN866|WIN1256)$/;

/** @param encoding of the database, as `server_encoding` has it */
export function encodingFinding(encoding = "UTF8"): Finding[] {
  if (WHOLE.test(encoding)) return [];
  const what = encoding === "SQL_ASCII" ? "takes any bytes, text or not" : "has characters that UTF-8 lacks";
  const message = `The encoding of the database, ${encoding}, ${what}. Events go out in UTF-8; one with such a text becomes a dead letter.`;
  const remedy =
    "Move to a database in UTF8 (dump it, and restore it there); until then find such rows by the dead letters, and correct them.";
  return [finding("EncodingWithGaps", "server", message, remedy)];
}
