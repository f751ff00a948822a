/** TypeScript text that holds what others wrote: names, labels and comments of the database. */

/** Control characters, line ends, and those that make text look like other text. */
const HIDDEN = /[\p{Cc}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const LINE_END = /\r\n|[\n\r\u2028\u2029]/;
const PLAIN_PROPERTY = /^[A-Za-z_$][A-Za-z0-9_$]*$/;

export function stringLiteral(text: string): string {
  return visible(JSON.stringify(text));
}

/** Name of a property in an interface. */
export function propertyName(name: string): string {
  return PLAIN_PROPERTY.test(name) ? name : stringLiteral(name);
}

/**
 * A doc comment, with a line end behind it. `@` needs lines of their own: in one line a compiler takes
 * `@ts-expect-error` for its own.
 */
export function docComment(texts: readonly (string | null)[], indent = ""): string {
  const lines = texts
    .flatMap((text) => text?.split(LINE_END) ?? [])
    .map((line) => visible(line.trimEnd().replaceAll("\t", " ")).replaceAll("*/", "*\\/"));
  const only = lines.length === 1 ? lines[0] : undefined;
  if (only !== undefined && !only.includes("@")) return `${indent}/** ${only} */\n`;
  const body = lines.map((line) => `${indent} * ${line}`.trimEnd());
  return [`${indent}/**`, ...body, `${indent} */`, ""].join("\n");
}

function visible(text: string): string {
  return text.replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
