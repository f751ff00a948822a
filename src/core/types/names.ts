/** Names for types, from names that may hold any character. */

/**
 * Letters and digits that every compiler takes: some of later versions of Unicode it would refuse. What is not
 * among them only parts words.
 */
const WORDS =
  /(?:(?=[0-9A-Za-z\u00c0-\u052f\u05d0-\u064a\u3041-\u30ff\u4e00-\u9fa5\uac00-\ud7a3])[\p{L}\p{Nd}])+/gu;

/** `public`, `order_items` → `PublicOrderItems`. */
export function typeName(...parts: readonly string[]): string {
  const name = parts.map(capitalized).join("");
  return /^\p{Nd}/u.test(name) ? `_${name}` : name;
}

/**
 * Gives each name once, also where case does not count (they become names of files, too): the second one
 * gets `_2`.
 */
export function uniqueNames(reserved: Iterable<string>): (wanted: string) => string {
  const taken = new Set([...reserved].map((name) => name.toLowerCase()));
  return (wanted) => {
    let name = wanted;
    for (let number = 2; taken.has(name.toLowerCase()); number += 1) name = `${wanted}_${number}`;
    taken.add(name.toLowerCase());
    return name;
  };
}

function capitalized(part: string): string {
  const words = part.match(WORDS) ?? ["_"];
  return words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
}
