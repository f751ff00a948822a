/** SQL conditions of a spec: kept within the brackets they are put in. Pure. */

/** What a name with a dot may begin with: the row, and what PostgreSQL brings along. */
const QUALIFIERS = ["new", "old", "pg_catalog"];
const STRING = "'(?:[^']|'')*'";
const NAME = String.raw`(?:"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)`;
const CHAIN = String.raw`${NAME}(?:\s*\.\s*${NAME})*(?:\s*\.)?`;
const TOKEN = new RegExp(String.raw`${STRING}|\d+(?:\.\d+)?|[)\]]\s*\.\s*${CHAIN}|${CHAIN}|[\s\S]`, "g");

/**
 * Why a text cannot be one SQL condition and nothing more; null when it can. Whether it means something, and
 * uses nothing it may not, PostgreSQL says (`check_condition` in sql/functions_conditions.sql). Names of others than
 * PostgreSQL itself are kept out here already: reading a literal of a type can run what its owner wrote.
 */
export function conditionProblem(text: string): string | null {
  if (text.trim() === "") return "must not be empty";
  // With these a text could end elsewhere than it seems to.
  if (/[\0\\$]/.test(text)) return "must not hold a backslash, $ or NUL";
  let before = "";
  let bare = "";
  for (const [token] of text.matchAll(TOKEN)) {
    // E'…', U&'…' and their like have other ends; psql puts values in for :'…' and :name.
    if (/^['"]/.test(token) && /[\w&\u0080-\uffff]$/.test(before))
      return "must have a space or an operator before a quote";
    if (token === "'" || token === '"') return "has a quote that does not end";
    if (/^['"A-Za-z_{\u0080-\uffff]/.test(token) && /(?:^|[^:]):$/.test(before))
      return "must have a space between : and a name";
    const problem = /^["A-Za-z_\u0080-\uffff]/.test(token) ? nameProblem(token) : null;
    if (problem !== null) return problem;
    before = (before + token).slice(-2);
    bare += bareOf(token);
  }
  if (bare.includes(";")) return "must not hold ;";
  if (/--|\/\*/.test(bare)) return "must not hold a comment";
  return bracketProblem(bare);
}

/** @param chain names with dots between them */
function nameProblem(chain: string): string | null {
  const names = [...chain.matchAll(new RegExp(NAME, "g"))].map(([name]) => nameOf(name));
  const dots = names.length > 1 || chain.trimEnd().endsWith(".");
  if (!dots || (names.length <= 2 && QUALIFIERS.includes(names[0] ?? ""))) return null;
  return `must not name ${names.join(".")}: only columns, as new.… and old.…, and what is in pg_catalog; a field of a composite is (new.…).…`;
}

/** As PostgreSQL reads it. */
function nameOf(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase();
}

/** What of a token is neither a string nor a name. */
function bareOf(token: string): string {
  if (/^[)\]]/.test(token)) return token.charAt(0);
  return token.length > 1 ? " " : token;
}

function bracketProblem(bare: string): string | null {
  let depth = 0;
  for (const character of bare) {
    if (character === "(") depth += 1;
    if (character === ")") depth -= 1;
    if (depth < 0) return "closes a bracket that it did not open";
  }
  return depth > 0 ? "opens a bracket that it does not close" : null;
}
